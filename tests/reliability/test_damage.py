"""Damaged, mixed up, linked and unwritable indexes, and those of older releases: refused or read, with a message."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from fixtures.make_fixtures import PASSAGES
from support import TESTS
from support.first_stage import WordEncoder, collection
from support.fresh import run_fresh
from support.fuzz_files import limit_faiss

from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage import PassageIndex

FIXTURES = TESTS / "fixtures"
TOKEN_IDS = "token_ids.bin"
PARTS = ["CURRENT", "manifest.json", "passages.sqlite", "vectors.faiss", "lexical.npz"]


def load(folder: Path, **options: object) -> PassageIndex:
    return PassageIndex.load(folder, encoder=WordEncoder(), **options)  # type: ignore[arg-type]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    with PassageIndex.build(collection(40), encoder=WordEncoder(), factory="HNSW8") as index:
        index.save(tmp_path / "index")
    return tmp_path / "index"


def version_of(folder: Path) -> Path:
    return folder / json.loads((folder / "CURRENT").read_text())["version"]


def part_of(folder: Path, name: str) -> Path:
    return folder / name if name == "CURRENT" else version_of(folder) / name


# Damage


@pytest.mark.parametrize("name", PARTS)
def test_a_flipped_byte_anywhere_is_refused(name: str, saved: Path) -> None:
    path = part_of(saved, name)
    good, chance = path.read_bytes(), random.Random(name)
    for _ in range(40):
        place = chance.randrange(len(good))
        path.write_bytes(good[:place] + bytes([good[place] ^ chance.randrange(1, 256)]) + good[place + 1 :])
        with pytest.raises(PassageIndexError):
            load(saved).close()
    path.write_bytes(good)
    load(saved).close()


@pytest.mark.parametrize("name", PARTS)
def test_a_truncated_file_is_refused(name: str, saved: Path) -> None:
    path = part_of(saved, name)
    good = path.read_bytes()
    for size in (0, 1, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:size])
        for verify in ("full", "fast"):
            with pytest.raises(PassageIndexError):
                load(saved, verify=verify).close()


@pytest.mark.parametrize("name", PARTS[2:])
def test_without_hashes_damage_is_refused_or_answers_like_an_index(name: str, saved: Path) -> None:
    """``verify="fast"`` lets flipped bytes through; FAISS and SQLite meet them, and no other error comes out."""
    limit_faiss()
    path = part_of(saved, name)
    good, chance = path.read_bytes(), random.Random(name)
    for _ in range(60):
        spoilt = bytearray(good)
        for _ in range(chance.choice((1, 5, 50))):
            spoilt[chance.randrange(len(good))] = chance.randrange(256)
        path.write_bytes(spoilt)
        try:
            with load(saved, verify="fast") as index:
                for stage in ("dense", "lexical", "hybrid"):
                    for hit in index.search("w1 w2", k=5, first_stage=stage, filters={"year": {">": 2001}}):
                        assert hit.score is not None and abs(hit.score) < float("inf")
                list(index.passages())
        except PassageIndexError as error:
            assert len(str(error)) > 20


@pytest.mark.parametrize("name", PARTS)
def test_files_swapped_between_two_indexes_are_refused(name: str, saved: Path, tmp_path: Path) -> None:
    """The other index has the same number of passages, and files of the same sizes."""
    with PassageIndex.build(collection(40, start=40), encoder=WordEncoder(), factory="HNSW8") as index:
        index.save(tmp_path / "other")
    shutil.copyfile(part_of(tmp_path / "other", name), part_of(saved, name))
    with pytest.raises(PassageIndexError, match=r"SHA-256|bytes"):
        load(saved)


# Links


@pytest.mark.parametrize("name", [*PARTS, "version"])
def test_nothing_is_read_through_a_link(name: str, saved: Path, tmp_path: Path) -> None:
    path = version_of(saved) if name == "version" else part_of(saved, name)
    shutil.move(path, tmp_path / "outside")
    path.symlink_to(tmp_path / "outside")
    with pytest.raises(PassageIndexError, match="plain f"):
        load(saved)


@pytest.mark.parametrize("name", [".unfinished-version", ".unfinished-current", "v00000077", ".lock"])
def test_nothing_is_written_or_removed_through_a_link(name: str, saved: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    if name in (".unfinished-version", "v00000077"):
        outside.mkdir()
        (outside / "mine.txt").write_text("mine")
    else:
        outside.write_text("mine")
    (saved / name).unlink(missing_ok=True)
    (saved / name).symlink_to(outside)
    with load(saved) as index:
        try:
            index.add(collection(1, start=900))
        except PassageIndexError as error:
            assert name == ".lock" and str(saved) in str(error)
    assert (outside / "mine.txt" if outside.is_dir() else outside).read_text() == "mine"
    assert len(load(saved)) in (40, 41)


# Not to be written to

_AS_NOBODY = """
import os, sys
sys.path.insert(0, {tests!r})
from support.first_stage import WordEncoder, collection
from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage import PassageIndex
def results(index):
    return [hit.passage.id for hit in index.search("w1 w2", k=10)]
before = results(PassageIndex.load({folder!r}, encoder=WordEncoder()))  # imports everything, while root still may
if os.geteuid() == 0:
    os.setegid(65534), os.seteuid(65534)
index = PassageIndex.load({folder!r}, encoder=WordEncoder())
more = collection(1, start=900)
for change in (lambda: index.add(more), lambda: index.remove(["p1"]), lambda: index.save({folder!r})):
    try:
        change()
    except PassageIndexError as error:
        assert "could not be written" in str(error) and "unchanged" in str(error), error
    else:
        raise AssertionError("a folder without permission was written to")
    assert results(index) == before
print("read")
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_read_only_folder_is_read_and_changes_are_refused(saved: Path) -> None:
    with tempfile.TemporaryDirectory() as place:  # pytest's own folders are closed to other users
        folder = Path(place, "index")
        shutil.copytree(saved, folder)
        (folder / ".lock").unlink(missing_ok=True)
        Path(place).chmod(0o755)
        folder.chmod(0o555)
        code = _AS_NOBODY.format(tests=str(TESTS), folder=str(folder))
        done = run_fresh(code)
        folder.chmod(0o755)
    assert done.stdout.strip() == "read", done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux") or os.geteuid() != 0, reason="mounting needs root on Linux")
def test_a_disk_that_fills_up_anywhere_leaves_the_old_index(tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not permitted here")
    try:
        with PassageIndex.build(collection(300), encoder=WordEncoder(), factory="HNSW8") as index:
            index.save(tmp_path / "index")
            outcomes = []
            for free in (0, 8, 40, 90, 140, 200, 280, 400):
                filler = tmp_path / "filler"
                filler.write_bytes(bytes(max(0, shutil.disk_usage(tmp_path).free - free * 1024)))
                before = [hit.passage.id for hit in index.search("w1 w2", k=20)]
                for change in (lambda first=before[0]: index.remove([first]), lambda: index.save(tmp_path / "index")):
                    try:
                        change()
                        outcomes.append(True)
                    except PassageIndexError as error:
                        assert "could not be written" in str(error)
                        outcomes.append(False)
                        assert [hit.passage.id for hit in index.search("w1 w2", k=20)] == before
                    with load(tmp_path / "index") as again:
                        assert [p.id for p in again.passages()] == [p.id for p in index.passages()]
                filler.unlink()
            assert True in outcomes and False in outcomes
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True, capture_output=True)


# Older releases


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_index_of_every_format_so_far_loads_searches_and_changes(number: int, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    shutil.copytree(FIXTURES / f"index_format_{number}", folder)
    assert json.loads((version_of(folder) / "manifest.json").read_text())["format_version"] == number
    with load(folder) as index:
        expected = [(id_, text, title, {"year": year}) for id_, text, title, year in PASSAGES if id_ != "scurvy"]
        assert [(p.id, p.text, p.title, dict(p.metadata)) for p in index.passages()] == expected
        encoder = WordEncoder()
        wanted = encoder.vector("Metformin lowers glucose")
        exact = {id_: float(wanted @ encoder.vector(text)) for id_, text, _, _ in expected}
        found = index.search("Metformin lowers glucose", k=11, first_stage="dense")
        assert [hit.passage.id for hit in found] == sorted(exact, key=lambda id_: -exact[id_])
        assert index.search("platelets COX", k=1, first_stage="lexical")[0].passage.id == "aspirin"
        index.remove(["gout"])
    with load(folder) as index:
        assert len(index) == 10
    assert json.loads((version_of(folder) / "manifest.json").read_text())["format_version"] >= 3
    assert not (version_of(folder) / TOKEN_IDS).exists()


def test_token_ids_of_an_index_are_left_aside_whatever_they_are(tmp_path: Path) -> None:
    """Format 3 once had them; nothing reads them, and the next version is saved without them."""
    folder = tmp_path / "index"
    for spoil in (lambda path: path.write_bytes(b"spoilt"), lambda path: path.unlink()):
        shutil.copytree(FIXTURES / "index_format_3", folder, dirs_exist_ok=True)
        spoil(version_of(folder) / TOKEN_IDS)
        with load(folder) as index:
            assert index.search("platelets COX", k=1, first_stage="lexical")[0].passage.id == "aspirin"
            index.save(folder)
        assert {path.name for path in version_of(folder).iterdir()} == {"manifest.json", *PARTS[2:]}
        load(folder).close()
        shutil.rmtree(folder)


def test_a_format_of_the_future_is_refused_with_what_to_do(saved: Path) -> None:
    import hashlib

    path = version_of(saved) / "manifest.json"
    raw = json.dumps({**json.loads(path.read_text()), "format_version": 99}).encode()
    path.write_bytes(raw)
    current = {"version": path.parent.name, "manifest_sha256": hashlib.sha256(raw).hexdigest()}
    (saved / "CURRENT").write_text(json.dumps(current))
    with pytest.raises(
        PassageIndexError, match=r"index format 99; this release reads .* Build the index again, or use"
    ):
        load(saved)


def test_a_saved_haystack_pipeline_loads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("haystack")
    from haystack import Pipeline

    pipeline = Pipeline.loads((FIXTURES / "haystack_pipeline.yaml").read_text())
    ranker = pipeline.get_component("ranker")
    assert (ranker.top_k, ranker.evidence, ranker.deduplicate) == (3, 1, "id")
    assert pipeline.get_component("retriever").top_k == 8
    assert {"query_embedder", "document_embedder"} <= set(pipeline.graph.nodes)
    # The retriever's own words: an index that is not there is named when the pipeline runs.
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match="no passage index in"):
        pipeline.get_component("retriever").warm_up()


# Found by fuzzing


def test_names_that_no_path_can_have_are_no_index() -> None:
    from biorerank_plugins.scale import open_index

    with pytest.raises(PassageIndexError, match="no passage index"):
        open_index("x" * 3000)


@pytest.mark.parametrize("count", [0, -1, 10**9, True, "3", None])
def test_a_list_of_shards_that_cannot_be_is_refused(count: object, tmp_path: Path) -> None:
    from biorerank_plugins.scale import open_index

    (tmp_path / "shards.json").write_text(json.dumps({"format": 1, "shards": count}))
    with pytest.raises(PassageIndexError, match="is damaged"):
        open_index(tmp_path)
