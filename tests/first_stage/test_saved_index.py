"""Saving, loading and durable changes, with the faults that a disk and a user can cause."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from support import TESTS
from support.first_stage import FACTORIES, WordEncoder, collection

from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage import PassageIndex
from biorerank_plugins.first_stage.lexical_file import lexical_settings

PASSAGES = collection(300)
QUERY = "w1 w2 w3 w4"


def results(index: PassageIndex) -> list[tuple[str, float | None]]:
    return [(candidate.passage.id, candidate.score) for candidate in index.search(QUERY, k=1000)]


def load(folder: Path, **options: object) -> PassageIndex:
    return PassageIndex.load(folder, encoder=WordEncoder(), **options)  # type: ignore[arg-type]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "index"
    with PassageIndex.build(PASSAGES, encoder=WordEncoder()) as index:
        index.save(folder)
    return folder


def version_of(folder: Path) -> Path:
    return folder / json.loads((folder / "CURRENT").read_text())["version"]


def contents(folder: Path) -> dict[str, str]:
    """Every file of a folder with a hash, the lock file left out."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


# What is saved


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("verify", ["full", "fast"])
def test_a_loaded_index_answers_as_the_saved_one_did(factory: str, verify: str, tmp_path: Path) -> None:
    index = PassageIndex.build(PASSAGES, encoder=WordEncoder(), factory=factory)
    index.remove(["p0", "p299", "p7"])
    before = results(index)
    index.save(tmp_path / "index")
    assert results(index) == before
    with load(tmp_path / "index", verify=verify) as again:
        assert results(again) == before
        assert (len(again), again.factory, again.get("p7"), again.get("p8")) == (297, factory, None, PASSAGES[8])


@pytest.mark.parametrize("factory", FACTORIES)
def test_changes_of_a_saved_index_are_durable(factory: str, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    index = PassageIndex.build(PASSAGES, encoder=WordEncoder(), factory=factory)
    index.save(folder)
    for number in range(4):
        index.remove([f"p{n}" for n in range(number * 30, number * 30 + 30)])
        index.add(collection(5, start=1000 + 5 * number))
        with load(folder) as again:
            assert results(again) == results(index)
            assert [p.id for p in again.passages()] == [p.id for p in index.passages()]
    assert len(index) == 200
    assert [path.name for path in folder.iterdir() if path.is_dir()] == [version_of(folder).name]


def test_the_manifest_says_what_the_index_is(saved: Path) -> None:
    manifest = json.loads((version_of(saved) / "manifest.json").read_text())
    files = manifest.pop("files")
    assert manifest == {
        "format_version": 3,
        "encoder": {"model_id": "words", "content_hash": "hash", "config": {"type": "WordEncoder", "seed": ""}},
        "dimension": 16,
        "metric": "inner_product",
        "factory": "Flat",
        "count": 300,
        "lexical": lexical_settings(),
        "lists_on_disk": False,
    }
    assert set(files) == {"passages.sqlite", "vectors.faiss", "lexical.npz"}
    for name, listed in files.items():
        raw = (version_of(saved) / name).read_bytes()
        assert listed == {"size": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    assert {path.name for path in version_of(saved).iterdir()} == {"manifest.json", *files}


def test_an_index_can_be_saved_over_another_and_into_an_empty_folder(saved: Path, tmp_path: Path) -> None:
    other = PassageIndex.build(PASSAGES[:5], encoder=WordEncoder())
    other.save(saved)
    assert len(load(saved)) == 5
    (tmp_path / "empty").mkdir()
    other.save(str(tmp_path / "empty"))
    other.add(PASSAGES[5:7])
    assert (len(load(saved)), len(load(tmp_path / "empty"))) == (5, 7)


def test_an_emptied_index_can_be_saved_and_filled_again(saved: Path) -> None:
    with load(saved) as index:
        index.remove([p.id for p in PASSAGES])
    with load(saved) as index:
        assert (len(index), index.search(QUERY)) == (0, [])
        index.add(PASSAGES[:3])
    assert len(load(saved)) == 3


# What is refused


@pytest.mark.parametrize("name", ["something.txt", "v1", ".hidden"])
def test_a_folder_with_something_else_in_it_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(PassageIndexError, match=f"is no passage index \\(it holds {name}\\)"):
        PassageIndex.build(PASSAGES[:3], encoder=WordEncoder()).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(PassageIndexError, match="is a file"):
        PassageIndex.build(PASSAGES[:3], encoder=WordEncoder()).save(tmp_path / name)
    with pytest.raises(PassageIndexError, match="no passage index in"):
        load(tmp_path)
    with pytest.raises(PassageIndexError, match="no passage index in"):
        load(tmp_path / "absent")


def flip(path: Path, position: int = -100) -> None:
    raw = bytearray(path.read_bytes())
    raw[position] ^= 1
    path.write_bytes(raw)


def edit_manifest(folder: Path, **changes: object) -> None:
    """Change the manifest and everything that vouches for it, as an attacker or a newer release would."""
    path = version_of(folder) / "manifest.json"
    raw = json.dumps({**json.loads(path.read_text()), **changes}).encode()
    path.write_bytes(raw)
    current = {"version": version_of(folder).name, "manifest_sha256": hashlib.sha256(raw).hexdigest()}
    (folder / "CURRENT").write_text(json.dumps(current))


def swap_files(version: Path) -> None:
    other = version.parent / "other"
    os.replace(version / "vectors.faiss", other)
    os.replace(version / "passages.sqlite", version / "vectors.faiss")
    os.replace(other, version / "passages.sqlite")


def point_elsewhere(version: Path, name: str) -> None:
    outside = version.parent.parent / name
    shutil.move(version / name, outside)
    (version / name).symlink_to(outside)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated vectors": (lambda v: os.truncate(v / "vectors.faiss", 500), "it has 500 bytes, the manifest says"),
    "truncated passages": (lambda v: os.truncate(v / "passages.sqlite", 4096), "it has 4096 bytes"),
    "swapped files": (swap_files, "bytes, the manifest says"),
    "missing vectors": (lambda v: (v / "vectors.faiss").unlink(), r"missing \['vectors.faiss'\]"),
    "missing manifest": (lambda v: (v / "manifest.json").unlink(), "manifest.json is missing"),
    "missing version": (shutil.rmtree, "is missing"),
    "an extra file": (lambda v: (v / "extra.pkl").write_text(""), r"unexpected \['extra.pkl'\]"),
    "changed manifest": (lambda v: flip(v / "manifest.json", 60), "damaged|was changed"),
    "broken manifest": (lambda v: (v / "manifest.json").write_text("{"), "is damaged"),
    "linked file": (lambda v: point_elsewhere(v, "vectors.faiss"), "not a plain file"),
    "broken pointer": (lambda v: (v.parent / "CURRENT").write_text("v1"), "is damaged"),
    "pointer out of the folder": (
        lambda v: (v.parent / "CURRENT").write_text('{"version": "../x", "manifest_sha256": ""}'),
        "names no version",
    ),
    "unknown format": (lambda v: edit_manifest(v.parent, format_version=4), "has index format 4; this release reads"),
    "wrong count": (lambda v: edit_manifest(v.parent, count=299), "holds 300 passages, its manifest says 299"),
    "wrong dimension": (lambda v: edit_manifest(v.parent, dimension=8), "dimensions"),
    "wrong metric": (lambda v: edit_manifest(v.parent, metric="l2"), "metric 'l2'"),
    "wrong factory": (lambda v: edit_manifest(v.parent, factory="HNSW8"), "holds a IndexFlat"),
    "unknown factory": (lambda v: edit_manifest(v.parent, factory="LSH"), "is not offered"),
    "no files listed": (lambda v: edit_manifest(v.parent, files=[]), "does not list"),
    "truncated words": (lambda v: os.truncate(v / "lexical.npz", 500), "it has 500 bytes, the manifest says"),
    "missing words": (lambda v: (v / "lexical.npz").unlink(), r"missing \['lexical.npz'\]"),
    "words that should not be": (lambda v: edit_manifest(v.parent, lexical=None), r"unexpected \['lexical.npz'\]"),
    "no encoder": (lambda v: edit_manifest(v.parent, encoder=None), "manifest .* is damaged"),
}


@pytest.mark.parametrize("verify", ["full", "fast"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_is_refused_with_the_reason(damage: str, verify: str, saved: Path) -> None:
    cause, reason = DAMAGES[damage]
    cause(version_of(saved))
    with pytest.raises(PassageIndexError, match=reason):
        load(saved, verify=verify)


@pytest.mark.parametrize("name", ["vectors.faiss", "passages.sqlite", "lexical.npz"])
@pytest.mark.parametrize("position", [5, 2000, -100])
def test_a_flipped_bit_is_found_before_the_file_is_parsed(name: str, position: int, saved: Path) -> None:
    flip(version_of(saved) / name, position)
    with pytest.raises(PassageIndexError, match=f"{name} was changed: its SHA-256"):
        load(saved, verify="full")


def test_an_index_of_another_model_is_refused(saved: Path) -> None:
    with pytest.raises(PassageIndexError, match="was built with another encoder: words"):
        PassageIndex.load(saved, encoder=WordEncoder("other"))
    changed = WordEncoder()
    changed.config = lambda: {"type": "WordEncoder", "seed": "x"}  # type: ignore[method-assign]
    with pytest.raises(PassageIndexError, match="seed='', this one has seed='x'"):
        PassageIndex.load(saved, encoder=changed)
    with pytest.raises(PassageIndexError, match=r"'WordEncoder' is no encoder.*Pass it as encoder="):
        PassageIndex.load(saved)
    with pytest.raises(ValueError, match="verify='none'"):
        load(saved, verify="none")


# What goes wrong while writing


class Fault:
    """Make the n-th call of some functions of the operating system fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: BaseException, functions: list[str]) -> None:
        self._patch, self._error, self._functions = monkeypatch, error, functions
        self.calls = 0

    def at(self, number: int) -> None:
        self.calls = 0
        for name in self._functions:
            self._patch.setattr(os, name, self._failing(getattr(os, name), number))

    def _failing(self, real: Callable[..., object], number: int) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            self.calls += 1
            if self.calls == number:
                raise self._error
            return real(*arguments, **options)

        return call


NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("change", ["add", "remove", "save"])
@pytest.mark.parametrize("error", [NO_SPACE, KeyboardInterrupt()], ids=["full-disk", "ctrl-c"])
@pytest.mark.parametrize("factory", ["Flat", "HNSW8"])
def test_a_change_that_fails_at_any_step_leaves_the_old_index(
    change: str, error: BaseException, factory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each sync and each rename fails in turn; folder and opened index are the old ones, or, if it was too late to
    fail, both are the new ones."""
    folder = tmp_path / "index"
    index = PassageIndex.build(PASSAGES, encoder=WordEncoder(), factory=factory)
    index.save(folder)
    actions: dict[str, Callable[[], object]] = {
        "add": lambda: index.add(collection(3, start=5000)),
        "remove": lambda: index.remove(["p1", "p2"]),
        "save": lambda: index.save(folder),
    }
    n_failures = 0
    for number in range(1, 20):
        before, files = results(index), contents(folder)
        with monkeypatch.context() as patch:
            fault = Fault(patch, error, ["fsync", "replace"])
            fault.at(number)
            try:
                actions[change]()
            except (PassageIndexError, KeyboardInterrupt) as raised:
                failed: BaseException | None = raised
            else:
                failed = None
        assert {path.name for path in folder.iterdir()} == {"CURRENT", ".lock", version_of(folder).name}
        with load(folder) as again:
            assert results(again) == results(index)
        if failed is None:
            break
        if contents(folder) == files:
            n_failures += 1
            assert results(index) == before
            assert not isinstance(error, OSError) or "No space left on device" in str(failed)
        else:
            assert isinstance(failed, KeyboardInterrupt)  # it came after the switch
            break
    assert n_failures == 9  # seven syncs up to the switch, and two renames, the second of which is the switch


def test_a_full_disk_while_saving_for_the_first_time_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = PassageIndex.build(PASSAGES, encoder=WordEncoder())
    for number in (1, 2, 4):
        with monkeypatch.context() as patch:
            Fault(patch, NO_SPACE, ["fsync"]).at(number)
            with pytest.raises(PassageIndexError, match="No space left on device"):
                index.save(tmp_path / "index")
        assert list(tmp_path.iterdir()) == []
    assert index.folder is None
    index.add(collection(3, start=5000))
    index.save(tmp_path / "index")
    assert len(load(tmp_path / "index")) == 303


@pytest.mark.skipif(not sys.platform.startswith("linux") or os.geteuid() != 0, reason="mounting needs root on Linux")
@pytest.mark.parametrize("free", [20, 300, 700], ids=lambda free: f"{free} KiB free")
def test_a_really_full_disk_leaves_the_old_index(free: int, tmp_path: Path) -> None:
    """The disk fills up at once, in the middle of the passages, and in the middle of the vectors."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not permitted here")
    try:
        with PassageIndex.build(PASSAGES, encoder=WordEncoder()) as index:
            index.save(tmp_path / "index")
            (tmp_path / "filler").write_bytes(bytes(shutil.disk_usage(tmp_path).free - free * 1024))
            before, files = results(index), contents(tmp_path)
            with pytest.raises(PassageIndexError, match=r"could not be written.*(full|No space left)"):
                index.add(collection(4000, start=5000))
            assert results(index) == before
            assert contents(tmp_path) == files
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True, capture_output=True)


def test_leftovers_of_a_crash_are_ignored_and_cleared(saved: Path) -> None:
    (saved / ".unfinished-version").mkdir()
    (saved / ".unfinished-version" / "vectors.faiss").write_text("half")
    (saved / ".unfinished-current").write_text("{")
    shutil.copytree(version_of(saved), saved / "v00000002")  # renamed, but never switched to
    with load(saved) as index:
        assert len(index) == 300
        index.remove(["p0"])
    assert {path.name for path in saved.iterdir()} == {"CURRENT", ".lock", version_of(saved).name}
    assert len(load(saved)) == 299


def test_a_crashed_first_save_does_not_block_the_folder(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / ".unfinished-version").mkdir()
    PassageIndex.build(PASSAGES[:3], encoder=WordEncoder()).save(tmp_path)
    assert len(load(tmp_path)) == 3


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from support.first_stage import WordEncoder, collection
from biorerank_plugins.first_stage import PassageIndex
index = PassageIndex.load({folder!r}, encoder=WordEncoder())
calls = 0
def killing(real):
    def call(*arguments):
        global calls
        calls += 1
        if calls == {number}:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)
    return call
os.fsync, os.replace = killing(os.fsync), killing(os.replace)
index.add(collection(3, start=5000))
"""


@pytest.mark.parametrize("number", [1, 5, 9, 10])
def test_a_killed_writer_leaves_the_old_index_or_the_new_one(number: int, saved: Path) -> None:
    code = KILLED.format(tests=str(TESTS), folder=str(saved), number=number)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == -9, done.stderr.decode()
    with load(saved) as index:
        assert len(index) == (303 if number == 10 else 300)  # the tenth call comes after the switch
        index.add(collection(2, start=6000))
    assert {path.name for path in saved.iterdir()} == {"CURRENT", ".lock", version_of(saved).name}


# Several at once


def test_a_second_writer_waits_and_then_gives_up(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biorerank_plugins.first_stage.storage._LOCK_SECONDS", 0.1)
    with load(saved) as index:
        before = results(index)
        with FileLock(saved / ".lock"), pytest.raises(PassageIndexError, match="Another process is writing"):
            index.remove(["p0"])
        assert results(index) == before
        assert index.remove(["p0"]) == 1


def test_changes_of_somebody_else_are_not_overwritten(saved: Path) -> None:
    with load(saved) as first, load(saved) as second:
        first.add(collection(3, start=5000))
        assert len(second) == 300  # a reader keeps what it loaded
        assert len(results(second)) == 300
        with pytest.raises(PassageIndexError, match="changed by somebody else since it was loaded"):
            second.remove(["p0"])
        assert len(second) == 300
    assert len(load(saved)) == 303


def test_loading_while_another_writes_always_gives_a_whole_version(saved: Path) -> None:
    stop = threading.Event()
    sizes: set[int] = set()
    errors: list[Exception] = []

    def keep_loading() -> None:
        while not stop.is_set():
            try:
                with load(saved) as index:
                    sizes.add(len(results(index)))
            except Exception as error:
                errors.append(error)

    reader = threading.Thread(target=keep_loading)
    reader.start()
    with load(saved) as writer:
        for _ in range(15):
            writer.add(collection(3, start=5000))
            writer.remove([p.id for p in collection(3, start=5000)])
    stop.set()
    reader.join()
    assert errors == []
    assert sizes <= {300, 303}


def test_a_relative_folder_stays_the_same_folder(saved: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(saved.parent)
    index = load(Path("index"))
    monkeypatch.chdir("/")
    index.remove(["p0"])
    assert len(load(saved)) == 299


def test_nothing_in_a_saved_index_is_pickled(saved: Path) -> None:
    for path in version_of(saved).iterdir():
        assert not path.read_bytes().startswith(b"\x80")
    assert (version_of(saved) / "passages.sqlite").read_bytes().startswith(b"SQLite format 3\x00")
