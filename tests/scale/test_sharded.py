"""Several indexes, searched side by side, are one index."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import numpy as np
import pytest
from support.first_stage import WordEncoder, collection
from support.scorers import shared_words, zero

from biorerank_plugins import PassageIndex, TwoStageSearch
from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage import Hybrid
from biorerank_plugins.first_stage.lexical import LexicalIndex
from biorerank_plugins.scale import ShardedIndex, open_index
from biorerank_plugins.scale.shard_statistics import statistics_of, with_statistics

QUERIES = ["w1 w2 w3", "w17 w40", "w300", "w5 w6 w490", "unknown words"]
PASSAGES = collection(400)


def found(index, first_stage: str, k: int = 30, **options) -> list[list[tuple[str, int]]]:
    return [
        [(one.passage.id, one.rank) for one in answer]
        for answer in index.search_many(QUERIES, k, first_stage=first_stage, **options)
    ]


def scores(index, first_stage: str) -> list[float]:
    return [one.score for answer in index.search_many(QUERIES, 30, first_stage=first_stage) for one in answer]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharded") / "index"
    ShardedIndex.build(PASSAGES, folder, shards=3, encoder=WordEncoder()).close()
    return folder


@pytest.fixture(scope="module")
def one_index() -> PassageIndex:
    return PassageIndex.build(PASSAGES, encoder=WordEncoder())


@pytest.mark.parametrize("hybrid", [Hybrid(), Hybrid("weighted", lexical_weight=0.4), Hybrid("rrf", depth=5)])
@pytest.mark.parametrize("first_stage", ["dense", "lexical", "hybrid"])
@pytest.mark.parametrize("filters", [None, {"year": 2003}, {"year": {">=": 2004}}])
def test_flat_shards_give_what_one_index_gives(folder, one_index, first_stage, hybrid, filters):
    """Ids, ranks and ties (every tenth text comes twice), with and without a filter, however the sides are fused."""
    with ShardedIndex.load(folder, encoder=WordEncoder()) as index:
        index.hybrid = one_index.hybrid = hybrid
        assert len(index) == 400
        assert found(index, first_stage, filters=filters) == found(one_index, first_stage, filters=filters)
        assert found(index, first_stage, k=1000) == found(one_index, first_stage, k=1000)
        assert scores(index, first_stage) == pytest.approx(scores(one_index, first_stage), abs=1e-6)


def test_words_are_weighed_by_the_whole_collection():
    texts = [passage.text for passage in PASSAGES]
    whole = LexicalIndex.build(enumerate(texts))
    parts = [LexicalIndex.build((row, texts[row]) for row in range(start, 400, 3)) for start in range(3)]
    statistics = statistics_of(parts)
    assert (statistics.texts, statistics.tokens) == (400, 1200)
    for part in parts:
        mended = with_statistics(part, statistics)
        for query in QUERIES:
            assert mended.match(query).scores == pytest.approx(whole.match(query).of(mended.rows), abs=1e-6)
    local = max(abs(parts[0].match(q).of(parts[0].rows) - whole.match(q).of(parts[0].rows)).max() for q in QUERIES)
    assert local > 0.01  # what the correction is for


def test_an_approximate_type_finds_nearly_the_same(tmp_path: Path, one_index):
    index = ShardedIndex.build(
        PASSAGES, tmp_path / "i", shards=2, encoder=WordEncoder(), factory="HNSW8", lexical=False
    )
    assert not index.lexical
    for ours, exact in zip(found(index, "dense"), found(one_index, "dense"), strict=True):
        assert len({one[0] for one in ours} & {one[0] for one in exact}) >= 27


def test_two_stages_and_every_lookup_take_it_as_an_index(folder, one_index):
    from biorerank_plugins import BioReranker

    one_index.hybrid = Hybrid()
    with open_index(folder, encoder=WordEncoder()) as index, BioReranker(shared_words()) as reranker:
        assert isinstance(index, ShardedIndex)
        ours, theirs = (TwoStageSearch(one, reranker).search("w1 w2", candidates=20) for one in (index, one_index))
        assert [one.passage.id for one in ours] == [one.passage.id for one in theirs]
        assert ours.missing_shards == ()
        assert index.get("p17") == PASSAGES[17]
        assert "p17" in index
        assert "nobody" not in index
        with pytest.raises(ValueError, match="k"):
            index.search("w1", 0)
        with pytest.raises(ValueError, match="first_stage"):
            index.search("w1", first_stage="other")
        with pytest.raises(ValueError):
            index.search("w1", filters={"year": {"~": 1}})
    with pytest.raises(PassageIndexError, match="closed"):
        index.search("w1")


def lose(folder: Path, tmp_path: Path) -> Path:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "shard-0001")
    return copy


def test_a_lost_shard_is_an_error_unless_partial_results_are_wanted(folder, tmp_path: Path, caplog):
    copy = lose(folder, tmp_path)
    with pytest.raises(PassageIndexError, match="shard-0001 cannot be opened"):
        ShardedIndex.load(copy, encoder=WordEncoder())
    with caplog.at_level(logging.WARNING), ShardedIndex.load(copy, encoder=WordEncoder(), on_lost="partial") as index:
        assert index.lost == ("shard-0001",)
        answer = index.search("w1 w2 w3", 30)
        assert answer.missing_shards == ("shard-0001",)
        assert len(answer) == 30
        assert "partial" in caplog.text

        from biorerank_plugins import BioReranker

        with BioReranker(zero()) as reranker:
            ranking = TwoStageSearch(index, reranker).search("w1 w2 w3", candidates=10)
        assert ranking.missing_shards == ("shard-0001",)
        assert ranking.to_dict()["missing_shards"] == ["shard-0001"]
        there = {one.passage.id for one in index.search("w1", 1000)}
        lost = next(passage.id for passage in PASSAGES if passage.id not in there)
        with pytest.raises(PassageIndexError, match="is lost"):
            index.get(lost)
    with PassageIndex.load(folder / "shard-0001", encoder=WordEncoder()) as gone:
        assert {passage.id for passage in gone.passages()} == {p.id for p in PASSAGES} - there


@pytest.mark.parametrize("on_lost", ["error", "partial"])
def test_a_shard_that_fails_or_hangs_during_a_search(folder, on_lost):
    """It fails because it was closed under way; it hangs because somebody changes it for too long."""
    opened = {f"s{n}": PassageIndex.load(folder / f"shard-000{n}", encoder=WordEncoder()) for n in range(3)}
    with ShardedIndex(opened, on_lost=on_lost, timeout=0.5) as index:
        release = threading.Event()

        def hold() -> None:
            with opened["s2"]._searching.writing():
                release.wait(30)

        holder = threading.Thread(target=hold)
        holder.start()
        try:
            opened["s0"].close()
            if on_lost == "error":
                with pytest.raises(PassageIndexError, match=r"2 of 3 shards did not answer \(s0, s2\)"):
                    index.search("w1", 5)
            else:
                answer = index.search("w1", 5)
                assert answer.missing_shards == ("s0", "s2")
                with opened["s1"].reading() as contents:
                    assert {one.passage.id for one in answer} <= set(contents.catalog.find(p.id for p in PASSAGES))
        finally:
            release.set()
            holder.join()


def test_shards_that_do_not_belong_together_and_foreign_folders_are_refused(folder, tmp_path: Path):
    with pytest.raises(PassageIndexError, match="no sharded index"):
        ShardedIndex.load(tmp_path, encoder=WordEncoder())
    with pytest.raises(PassageIndexError, match="exists already"):
        ShardedIndex.build(PASSAGES, folder, shards=2, encoder=WordEncoder())
    with pytest.raises(PassageIndexError, match="Take fewer shards"):
        ShardedIndex.build(PASSAGES[:3], tmp_path / "few", shards=50, encoder=WordEncoder())
    with pytest.raises(PassageIndexError, match="at least one"):
        ShardedIndex({})
    other = PassageIndex.build(PASSAGES[:9], encoder=WordEncoder("b"))
    mine = PassageIndex.build(PASSAGES[:9], encoder=WordEncoder())
    with pytest.raises(PassageIndexError, match="another way"):
        ShardedIndex({"a": mine, "b": other})
    assert np.isfinite(mine.search("w1", 1)[0].score)
