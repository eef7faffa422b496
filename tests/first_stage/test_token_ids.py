"""An index keeps the token ids of its passages: they follow its changes, and never stand in its way."""

from __future__ import annotations

import errno
import gc
import hashlib
import json
import logging
import os
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
from support.first_stage import WordEncoder, collection
from support.scorers import length

from biorerank_plugins import BioReranker, Passage, PassageIndex, TwoStageSearch
from biorerank_plugins.errors import ModelError, PassageIndexError
from biorerank_plugins.runtime.passage_tokens import PassageTokens
from biorerank_plugins.runtime.token_cache import TokenIdCache, text_keys

PASSAGES = collection(120)
QUERY = "w1 w2 w3 w4"
FILE = "token_ids.bin"


@pytest.fixture
def model(tiny_cross_encoder_dir: Path, tmp_path: Path) -> Path:
    """Folder of a reranker that a test may take away."""
    return Path(shutil.copytree(tiny_cross_encoder_dir, tmp_path / "reranker"))


@pytest.fixture
def saved(model: Path, tmp_path: Path) -> Path:
    with PassageIndex.build(PASSAGES, encoder=WordEncoder()) as index:
        index.cache_tokens(model)
        index.save(tmp_path / "index")
    return tmp_path / "index"


def load(folder: Path, **options: object) -> PassageIndex:
    return PassageIndex.load(folder, encoder=WordEncoder(), **options)  # type: ignore[arg-type]


def reranker(model: Path, **options: object) -> BioReranker:
    return BioReranker(model, device="cpu", dtype="float32", **options)  # type: ignore[arg-type]


def version_of(folder: Path) -> Path:
    return folder / json.loads((folder / "CURRENT").read_text())["version"]


def holds_what_the_tokenizer_says(index: PassageIndex, model: Path) -> bool:
    """Whether every passage of the index is there, with the ids that transformers gives its text."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    texts = [f"{passage.title}. {passage.text}" for passage in index.passages()]
    assert index.token_ids is not None
    places = index.token_ids.find(text_keys(texts))
    expected = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    return bool((places >= 0).all()) and [ids.tolist() for ids in index.token_ids.ids(places)] == expected


def test_token_ids_are_stored_and_loaded(saved: Path, model: Path) -> None:
    with load(saved) as index:
        assert holds_what_the_tokenizer_says(index, model)
        assert index.token_ids is not None
        assert len(index.token_ids) == 120
    manifest = json.loads((version_of(saved) / "manifest.json").read_text())
    raw = (version_of(saved) / FILE).read_bytes()
    assert manifest["files"][FILE] == {"size": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    assert manifest["token_ids"]["texts"] == 120


def test_an_index_without_token_ids_has_none(tmp_path: Path) -> None:
    index = PassageIndex.build(PASSAGES, encoder=WordEncoder())
    index.save(tmp_path / "index")
    assert index.token_ids is None
    assert load(tmp_path / "index").token_ids is None
    assert not (version_of(tmp_path / "index") / FILE).exists()


@pytest.mark.parametrize("durable", [True, False])
def test_token_ids_follow_the_changes_of_the_index(durable: bool, model: Path, tmp_path: Path) -> None:
    index = PassageIndex.build(PASSAGES, encoder=WordEncoder())
    if durable:
        index.save(tmp_path / "index")
    assert index.cache_tokens(model) == 120
    index.add(collection(30, start=500))
    index.remove(["p0", "p1"])
    assert holds_what_the_tokenizer_says(index, model)
    if durable:
        with load(tmp_path / "index") as again:
            assert holds_what_the_tokenizer_says(again, model)


def test_ids_of_removed_passages_are_dropped_when_they_are_a_quarter(saved: Path, model: Path) -> None:
    sizes = []
    for start in range(0, 60, 15):
        with load(saved) as index:
            index.remove([f"p{number}" for number in range(start, start + 15)])
            assert holds_what_the_tokenizer_says(index, model)
            assert index.token_ids is not None
            sizes.append(len(index.token_ids))
    assert sizes == [120, 120, 75, 75]
    with load(saved) as index:
        index.remove([passage.id for passage in index.passages()])
        assert index.token_ids is not None
        assert len(index.token_ids) == 0
        index.add(PASSAGES[:3])
        assert holds_what_the_tokenizer_says(index, model)


def test_token_ids_are_made_anew_for_another_reranker(
    saved: Path, tmp_path: Path, model: Path, make_tokenizer: Callable[..., None]
) -> None:
    other = Path(shutil.copytree(model, tmp_path / "other"))
    make_tokenizer(other, lowercase=False)
    with load(saved) as index:
        before = index.token_ids
        index.cache_tokens(other)
        assert index.token_ids is not None
        assert before is not None
        assert index.token_ids.info.tokenizer != before.info.tokenizer
    with load(saved) as again:
        assert holds_what_the_tokenizer_says(again, other)


def test_long_passages_are_left_out(model: Path) -> None:
    index = PassageIndex.build([*PASSAGES[:3], Passage("long", "aspirin " * 40)], encoder=WordEncoder())
    index.cache_tokens(model, max_tokens=30)
    assert index.token_ids is not None
    places = index.token_ids.find(text_keys(["aspirin " * 40]))
    assert (index.token_ids.counts(places), [len(ids) for ids in index.token_ids.ids(places)]) == ([40], [0])
    with pytest.raises(ValueError, match="max_tokens must be a whole number"):
        index.cache_tokens(model, max_tokens=0)


# Searching


class Recording(BioReranker):
    """Notes which caches it is given."""

    def use_token_cache(self, cache: TokenIdCache) -> None:
        self.caches = [*getattr(self, "caches", []), id(cache)]
        super().use_token_cache(cache)


@pytest.mark.parametrize("prefix", ["", "passage: "])
def test_a_search_gives_the_same_with_token_ids(prefix: str, model: Path) -> None:
    index = PassageIndex.build(PASSAGES, encoder=WordEncoder())
    core = Recording(model, device="cpu", dtype="float32", document_prefix=prefix)
    search = TwoStageSearch(index, core)
    before = search.search(QUERY, candidates=50)
    index.cache_tokens(core)
    after = search.search(QUERY, candidates=50)
    assert after.passages == before.passages
    assert core.caches == [id(index.token_ids)]
    index.add(collection(5, start=900))
    search.search(QUERY)
    assert core.caches[1:] == [id(index.token_ids)]


def test_one_reranker_serves_several_indexes_and_keeps_none_of_them(model: Path) -> None:
    core = reranker(model)
    indexes = [PassageIndex.build(collection(40, start=start), encoder=WordEncoder()) for start in (0, 40)]
    expected = [TwoStageSearch(index, reranker(model)).search(QUERY).passages for index in indexes]
    caches = []
    for index in indexes:
        index.cache_tokens(model)
        caches.append(weakref.ref(index.token_ids))
    assert [TwoStageSearch(index, core).search(QUERY).passages for index in indexes] == expected
    del index, indexes[:]
    gc.collect()
    assert [cache() for cache in caches] == [None, None]


def test_the_ids_of_another_tokenizer_are_not_used(
    saved: Path, tmp_path: Path, model: Path, make_tokenizer: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    other = Path(shutil.copytree(model, tmp_path / "other"))
    make_tokenizer(other, lowercase=False)
    plain = PassageIndex.build(PASSAGES, encoder=WordEncoder())
    with load(saved) as index, caplog.at_level(logging.INFO, logger="biorerank_plugins"):
        search = TwoStageSearch(index, reranker(other))
        for _ in range(2):
            expected = TwoStageSearch(plain, reranker(other)).search(QUERY)
            assert search.search(QUERY).passages == expected.passages
    assert caplog.text.count("they are of another tokenizer") == 1


# What cannot be had


def test_a_reranker_without_tokens_of_ours_is_refused() -> None:
    index = PassageIndex.build(PASSAGES[:3], encoder=WordEncoder())
    with pytest.raises(ModelError, match="Token ids cannot be stored for ScriptedScorer"):
        index.cache_tokens(BioReranker(length()))
    with pytest.raises(ModelError, match="no model 'unknown'"):
        index.cache_tokens("unknown")
    with pytest.raises(TypeError, match="the name or the folder of a model, got int"):
        index.cache_tokens(3)  # type: ignore[arg-type]
    assert index.token_ids is None


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="Cannot load a tokenizer for token ids from"):
        PassageTokens.load(tmp_path)


@pytest.mark.parametrize("why", ["no folder", "another tokenizer", "a function as template"])
def test_what_is_added_later_may_lack_token_ids(
    why: str, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, make_tokenizer: Callable[..., None]
) -> None:
    template = (lambda passage: f"{passage.title}. {passage.text}") if why == "a function as template" else None
    with PassageIndex.build(PASSAGES, encoder=WordEncoder()) as index:
        index.cache_tokens(reranker(model, template=template))
        index.add(collection(5, start=300))
        assert holds_what_the_tokenizer_says(index, model)
        index.save(tmp_path / "index")
    if why == "no folder":
        shutil.rmtree(model)
    elif why == "another tokenizer":
        make_tokenizer(model, lowercase=False)
    with load(tmp_path / "index") as index:
        assert index.add(collection(5, start=500)) == 5
        assert caplog.text.count("The token ids of this index are left as they are") == 1
        assert index.token_ids is not None
        assert len(index.token_ids) == 125
        index.remove([passage.id for passage in index.passages()][:60])
        assert len(index) == 70
    assert load(tmp_path / "index").token_ids is not None


def test_a_full_disk_does_not_keep_passages_out(
    saved: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with load(saved) as index:
        with monkeypatch.context() as patch:
            patch.setattr("tempfile.TemporaryFile", full)
            assert index.add(collection(5, start=500)) == 5
            with pytest.raises(PassageIndexError, match=r"could not be written.*No space left on device"):
                index.cache_tokens()
        assert len(index) == 125
        assert "left as they are: [Errno 28] No space left" in caplog.text
    assert len(load(saved)) == 125


# Damage, older formats, crashes


def edit_manifest(folder: Path, **changes: object) -> None:
    """Change the manifest and what vouches for it; ``...`` takes an entry away."""
    path = version_of(folder) / "manifest.json"
    entries = {**json.loads(path.read_text()), **changes}
    raw = json.dumps({name: value for name, value in entries.items() if value is not ...}).encode()
    path.write_bytes(raw)
    current = {"version": version_of(folder).name, "manifest_sha256": hashlib.sha256(raw).hexdigest()}
    (folder / "CURRENT").write_text(json.dumps(current))


def test_an_index_of_the_format_before_is_read(tmp_path: Path, model: Path) -> None:
    folder = tmp_path / "index"
    PassageIndex.build(PASSAGES, encoder=WordEncoder()).save(folder)
    edit_manifest(folder, format_version=2, token_ids=...)
    with load(folder) as index:
        assert (len(index), index.token_ids) == (120, None)
        index.cache_tokens(model)
    with load(folder) as index:
        assert holds_what_the_tokenizer_says(index, model)
    assert json.loads((version_of(folder) / "manifest.json").read_text())["format_version"] == 3


def vouched(path: Path) -> None:
    """Let the manifest vouch for the file as it is now."""
    manifest = json.loads((path.parent / "manifest.json").read_text())
    raw = path.read_bytes()
    listed = {"size": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    edit_manifest(path.parent.parent, files={**manifest["files"], path.name: listed})


def overwrite(path: Path, position: int, value: bytes) -> None:
    raw = bytearray(path.read_bytes())
    start = position % len(raw)
    raw[start : start + len(value)] = value
    path.write_bytes(raw)


def link(path: Path) -> None:
    shutil.move(path, path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def vouched_change(position: int, value: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        overwrite(path, position, value)
        vouched(path)

    return change


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped bit": (lambda path: overwrite(path, 5, b"\xee"), "was changed: its SHA-256 is not the one"),
    "cut off": (lambda path: os.truncate(path, 100), "it has 100 bytes, the manifest says"),
    "missing": (lambda path: path.unlink(), "is not a plain file"),
    "linked": (link, "is not a plain file"),
    "not listed": (lambda path: edit_manifest(path.parent.parent, files=_without(path)), "does not list"),
    "ids beyond the vocabulary": (vouched_change(0, b"\xff\xff"), "it holds the token id 65535"),
    "something else": (vouched_change(-8, b"whatever"), "it holds no token ids"),
}


def _without(path: Path) -> dict[str, object]:
    files = json.loads((path.parent / "manifest.json").read_text())["files"]
    return {name: listed for name, listed in files.items() if name != path.name}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_token_ids_are_left_aside(
    damage: str, saved: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cause, reason = DAMAGES[damage]
    with load(saved) as index:
        expected = TwoStageSearch(index, reranker(model)).search(QUERY)
    cause(version_of(saved) / FILE)
    with load(saved) as index:
        assert index.token_ids is None
        [record] = caplog.records
        assert (record.levelno, FILE in record.message, reason in record.message) == (logging.WARNING, True, True)
        assert "cache_tokens(reranker)" in record.message
        assert TwoStageSearch(index, reranker(model)).search(QUERY).passages == expected.passages
        index.add(collection(3, start=500))
        index.cache_tokens(model)
    with load(saved) as index:
        assert len(index) == 123
        assert holds_what_the_tokenizer_says(index, model)


def test_ids_that_a_fast_check_does_not_look_at_are_looked_at_when_they_are_used(
    saved: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with load(saved) as index:
        expected = TwoStageSearch(index, reranker(model)).search(QUERY, candidates=120)
    overwrite(version_of(saved) / FILE, 0, b"\xff\xff")
    with load(saved, verify="fast") as index:
        assert TwoStageSearch(index, reranker(model)).search(QUERY, candidates=120).passages == expected.passages
    assert "are damaged: it holds the token id 65535" in caplog.text


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("change", ["add", "cache_tokens"])
def test_a_change_that_fails_at_any_step_leaves_the_old_index(
    change: str, error: BaseException, saved: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_failures = 0
    index = load(saved)
    for number in range(1, 20):
        calls = 0

        def failing(real: Callable[..., object], number: int = number) -> Callable[..., object]:
            def call(*arguments: object) -> object:
                nonlocal calls
                calls += 1
                if calls == number:
                    raise error
                return real(*arguments)

            return call

        before = version_of(saved).name
        with monkeypatch.context() as patch:
            for name in ("fsync", "replace"):
                patch.setattr(os, name, failing(getattr(os, name)))
            try:
                index.add(collection(3, start=5000)) if change == "add" else index.cache_tokens(model, max_tokens=9)
            except (PassageIndexError, KeyboardInterrupt):
                failed = True
            else:
                failed = False
        with load(saved) as again:
            assert len(again) == len(index)
            assert holds_what_the_tokenizer_says(again, model) or change == "cache_tokens"
        if not failed or version_of(saved).name != before:
            break
        n_failures += 1
        assert holds_what_the_tokenizer_says(index, model)
    assert n_failures == 10  # eight syncs up to the switch, and two renames, the second of which is the switch
