"""A sharded index that is brought up to date is one index that was: content, scores, ties; all of it or nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.first_stage import WordEncoder, collection

from biorerank_plugins import Passage, PassageIndex
from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.passages import Deletion
from biorerank_plugins.scale import ShardedIndex

PASSAGES = collection(60)
QUERIES = ["w1 w2 w3", "w17 w40", "w300", "fresh words", PASSAGES[8].text]
CHANGES = [
    Deletion("p3"),
    Deletion("nobody"),
    Passage("p5", "fresh words here"),
    Passage("p100", PASSAGES[8].text),  # ties with p8 and p9
    Passage("p101", "fresh words there", metadata={"retracted": True}),
    PASSAGES[7],
]


def content(index, queries=QUERIES):
    found = [
        [(one.passage.id, pytest.approx(one.score, abs=1e-5)) for one in answer]
        for stage in ("dense", "lexical", "hybrid")
        for answer in index.search_many(queries, 30, first_stage=stage)
    ]
    return sorted((one.id, one.text) for one in index.passages()), found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharded") / "index"
    ShardedIndex.build(PASSAGES, folder, shards=3, encoder=WordEncoder()).close()
    return folder


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(folder, tmp_path / "index")
    return tmp_path / "index"


def test_it_is_what_one_index_is(copy: Path):
    one = PassageIndex.build(PASSAGES, encoder=WordEncoder())
    with ShardedIndex.load(copy, encoder=WordEncoder()) as index, ShardedIndex.load(copy, encoder=WordEncoder()) as old:
        before = content(old)
        assert index.update(CHANGES) == one.update(CHANGES)
        assert content(index) == content(one)
        assert content(old) == before  # who opened it before keeps what it was
        with pytest.raises(PassageIndexError, match="changed by somebody else"):
            old.update(CHANGES)
        index.update([Passage("p200", "w1 once more")])
        one.update([Passage("p200", "w1 once more")])
        assert index.get("p200") is not None
        again = index.update(CHANGES)
        assert (again.added, again.replaced, again.removed) == (0, 0, 0)
    with ShardedIndex.load(copy, encoder=WordEncoder()) as loaded:
        assert content(loaded) == content(one)
    names = {entry.name for entry in copy.iterdir()} - {".lock", "shards.json"}
    assert names == set(json.loads((copy / "shards.json").read_text())["folders"])


def test_without_words_only_shards_that_change_are_written(tmp_path: Path):
    with ShardedIndex.build(PASSAGES, tmp_path / "i", shards=3, encoder=WordEncoder(), lexical=False) as index:
        index.update([Deletion("p3")])
        assert len(index) == 59
    assert len(list((tmp_path / "i").glob("shard-*-v2"))) == 1


def test_a_shard_may_become_empty(tmp_path: Path):
    with ShardedIndex.build(PASSAGES[:8], tmp_path / "i", shards=2, encoder=WordEncoder()) as index:
        index.update([Deletion(one.id) for one in PASSAGES[1:8]])
        assert [one.passage.id for one in index.search(PASSAGES[0].text, 5)] == ["p0"]
        index.update(PASSAGES[1:8])
        assert len(index) == 8


def test_a_lost_or_damaged_shard_is_refused_and_nothing_is_lost(copy: Path):
    with ShardedIndex.load(copy, encoder=WordEncoder()) as index:
        before = content(index)
        vectors = next((copy / "shard-0002").glob("v*/vectors.faiss"))
        good = vectors.read_bytes()
        vectors.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        with pytest.raises(PassageIndexError, match="SHA-256"):
            index.update(CHANGES)
        vectors.write_bytes(good)
        assert content(index) == before
        with pytest.raises(ValueError, match="no text"):
            index.update([Deletion("p1"), Passage("p9", " ")])
    shutil.move(copy / "shard-0001", copy.parent / "aside")
    with ShardedIndex.load(copy, encoder=WordEncoder(), on_lost="partial") as index:
        with pytest.raises(PassageIndexError, match="needs every shard, and shard-0001 is lost"):
            index.update(CHANGES)
    shutil.move(copy.parent / "aside", copy / "shard-0001")
    with ShardedIndex.load(copy, encoder=WordEncoder()) as index:
        assert content(index) == before
