"""TwoStageSearch does what calling the index and then the reranker does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from biorerank_plugins import BioReranker, Passage, PassageIndex, TwoStageSearch
from biorerank_plugins.errors import PassageIndexError, ScoringTimeoutError
from biorerank_plugins.first_stage.arguments import FirstStage

WORDS = ("statins", "muscle", "pain", "aspirin", "bleeding", "asthma", "steroid")

PASSAGES = [
    Passage("a", "statins statins statins", metadata={"year": 2010}),
    Passage("b", "statins cause muscle pain", metadata={"year": 2018}),
    Passage("c", "aspirin causes bleeding", metadata={"year": 2020}),
    Passage("d", "muscle pain after exercise", metadata={"year": 2021}),
    Passage("e", "asthma and inhaled steroid", metadata={"year": 1999}),
    Passage("f", "statins cause muscle pain", metadata={"year": 2001}),
]


class CountWords:
    """An encoder whose vectors count words: scores can be worked out by hand."""

    dimension = len(WORDS)
    model_id = "count-words"
    content_hash = "0"

    def encode_queries(self, queries: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.array([[query.lower().split().count(word) for word in WORDS] for query in queries], dtype=np.float32)

    def encode_passages(self, passages: Sequence[Passage]) -> np.ndarray[Any, np.dtype[np.float32]]:
        return self.encode_queries([passage.text for passage in passages])

    def config(self) -> dict[str, Any]:
        return {"type": "CountWords"}


class SharedWords:
    """A reranker's model: the share of the query's words that the passage has, around zero."""

    def logits(self, query: str, texts: Sequence[str]) -> list[float]:
        wanted = set(query.lower().split())
        return [len(wanted & set(text.lower().split())) / len(wanted) - 0.5 for text in texts]


@pytest.fixture
def search() -> TwoStageSearch:
    index = PassageIndex.build(PASSAGES, encoder=CountWords(), lexical=False)
    return TwoStageSearch(index, BioReranker(SharedWords()))


def test_reranking_changes_the_order_of_the_first_stage(search: TwoStageSearch) -> None:
    """The first stage counts (a: 3, b and f: 3 words, d: 2); the reranker wants all words of the query."""
    found = [candidate.passage.id for candidate in search.index.search("statins muscle pain", 4)]
    ranking = search.search("statins muscle pain", candidates=4)
    assert found == ["a", "b", "f", "d"]
    assert [ranked.passage.id for ranked in ranking] == ["b", "f", "d", "a"]
    assert [ranked.input_index for ranked in ranking] == [1, 2, 3, 0]
    assert [ranked.retrieval_score for ranked in ranking] == [3.0, 3.0, 2.0, 3.0]


def test_it_is_the_index_and_then_the_reranker(search: TwoStageSearch) -> None:
    query = "aspirin bleeding pain"
    expected = search.reranker.rank(query, search.index.search(query, 5), top_k=3)
    assert search.search(query, candidates=5, top_k=3).passages == expected.passages


def test_only_the_candidates_are_reranked(search: TwoStageSearch) -> None:
    ranking = search.search("statins muscle pain", candidates=2)
    assert [ranked.passage.id for ranked in ranking] == ["b", "a"]


def test_filters_apply_before_the_candidates_are_chosen(search: TwoStageSearch) -> None:
    ranking = search.search("statins muscle pain", candidates=2, filters={"year": {">=": 2015}})
    assert [ranked.passage.id for ranked in ranking] == ["b", "d"]


def test_options_of_rank_are_passed_on(search: TwoStageSearch) -> None:
    query = "statins muscle pain"
    assert [r.passage.id for r in search.search(query, candidates=4, deduplicate="text")] == ["b", "d", "a"]
    assert [p.id for p in search.search(query, candidates=4, deduplicate="text").dropped] == ["f"]
    assert [r.passage.id for r in search.search(query, candidates=4, min_score=0.5)] == ["b", "f", "d"]
    assert [r.passage.id for r in search.search(query, candidates=4, min_probability=0.6)] == ["b", "f"]
    with pytest.raises(ScoringTimeoutError):
        search.search(query, timeout=1e-9)


def test_zero_is_a_threshold_and_not_unset(search: TwoStageSearch) -> None:
    assert len(search.search("statins", candidates=6, min_score=0.0)) == 6
    assert search.search("statins", candidates=6, min_score=1.0).below_threshold == 6


def test_many_queries_give_what_each_gives_alone(search: TwoStageSearch) -> None:
    queries = ["statins muscle pain", "asthma steroid", "aspirin"]
    together = search.search_many(queries, candidates=4)
    for query, ranking in zip(queries, together, strict=True):
        alone = search.search(query, candidates=4)
        assert ranking.query == query
        assert [r.passage.id for r in ranking] == [r.passage.id for r in alone]
        assert [r.logit for r in ranking] == pytest.approx([r.logit for r in alone], abs=1e-5)


def test_timings_tell_the_two_stages_apart(search: TwoStageSearch) -> None:
    timings = search.search("aspirin").timings
    assert set(timings) >= {"first_stage", "rerank"}
    assert all(seconds >= 0 for seconds in timings.values())


def test_no_queries_are_no_rankings(search: TwoStageSearch) -> None:
    assert search.search_many([]) == []


def test_nothing_allowed_is_an_empty_ranking(search: TwoStageSearch) -> None:
    assert len(search.search("aspirin", filters={"year": 1900})) == 0


@pytest.mark.parametrize("candidates", [0, -1, 2.5, True, "10"])
def test_an_impossible_number_of_candidates_is_refused(search: TwoStageSearch, candidates: Any) -> None:
    with pytest.raises(ValueError, match=r"candidates must be a whole number of at least 1, got"):
        search.search("aspirin", candidates=candidates)
    with pytest.raises(ValueError, match="candidates"):
        search.search_many([], candidates=candidates)


def test_bad_queries_are_refused(search: TwoStageSearch) -> None:
    with pytest.raises(ValueError, match="query is empty"):
        search.search("  ")
    with pytest.raises(TypeError, match="list of queries"):
        search.search_many("aspirin")
    with pytest.raises(TypeError, match="string"):
        search.search(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("first_stage", ["hybrid", "dense", "lexical"])
def test_the_first_stage_is_the_one_asked_for(first_stage: FirstStage) -> None:
    index = PassageIndex.build(PASSAGES, encoder=CountWords())
    found = index.search("statins muscle pain", 6, first_stage=first_stage)
    ranking = TwoStageSearch(index, BioReranker(SharedWords()), first_stage=first_stage).search("statins muscle pain")
    by_input = sorted(ranking, key=lambda ranked: ranked.input_index)
    assert [ranked.passage.id for ranked in by_input] == [candidate.passage.id for candidate in found]
    assert [ranked.retrieval_score for ranked in by_input] == [candidate.score for candidate in found]


def test_hybrid_is_the_default_and_dense_where_there_is_no_lexical_part(search: TwoStageSearch) -> None:
    with_both = PassageIndex.build(PASSAGES, encoder=CountWords())
    assert TwoStageSearch(with_both, search.reranker).first_stage == "hybrid"
    assert search.first_stage == "dense"
    assert TwoStageSearch(search.index, search.reranker, first_stage="hybrid").first_stage == "dense"
    with pytest.raises(PassageIndexError, match="first_stage='lexical' needs a lexical part"):
        TwoStageSearch(search.index, search.reranker, first_stage="lexical")


def test_a_query_without_known_words_is_an_empty_ranking_of_the_lexical_stage() -> None:
    search = TwoStageSearch(
        PassageIndex.build(PASSAGES, encoder=CountWords()), BioReranker(SharedWords()), first_stage="lexical"
    )
    assert [len(ranking) for ranking in search.search_many(["quokka", "aspirin"])] == [0, 1]


def test_an_unknown_first_stage_is_refused(search: TwoStageSearch) -> None:
    with pytest.raises(ValueError, match=r"first_stage='bm25' is unknown\. Choose 'hybrid', 'dense' or 'lexical'"):
        TwoStageSearch(search.index, search.reranker, first_stage="bm25")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"candidates": 4, "top_k": 2, "filters": {"year": {">=": 2005}}},
        {"candidates": 5, "fusion": 0.5, "deduplicate": "text", "evidence": 1, "timeout": 60.0},
    ],
)
def test_searching_in_a_task_gives_the_same(search: TwoStageSearch, options: dict[str, Any]) -> None:
    queries = ["statins muscle pain", "asthma steroid"]

    async def both() -> tuple[Any, Any]:
        return await asyncio.gather(search.asearch(queries[0], **options), search.asearch_many(queries, **options))

    one, many = asyncio.run(both())
    assert one.passages == search.search(queries[0], **options).passages
    assert [r.passages for r in many] == [r.passages for r in search.search_many(queries, **options)]
    assert set(one.timings) >= {"first_stage", "rerank"}


def test_searching_in_a_task_refuses_what_a_search_refuses(search: TwoStageSearch) -> None:
    for options in ({"candidates": 0}, {"filters": {"year": {"~": 1}}}, {"top_k": 0}, {"timeout": 0}):
        with pytest.raises(ValueError) as said:
            search.search("statins", **options)
        with pytest.raises(ValueError) as said_in_a_task:
            asyncio.run(search.asearch("statins", **options))
        assert str(said_in_a_task.value) == str(said.value)
    with pytest.raises(TypeError, match="passages"):
        asyncio.run(search.asearch("statins", passages=[]))


class HeldWords(CountWords):
    """An encoder that embeds queries only when it is let on."""

    def __init__(self) -> None:
        self.began, self.go_on = threading.Event(), threading.Event()

    def encode_queries(self, queries: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        self.began.set()
        assert self.go_on.wait(60)
        return CountWords().encode_queries(queries)

    def encode_passages(self, passages: Sequence[Passage]) -> np.ndarray[Any, np.dtype[np.float32]]:
        return CountWords().encode_passages(passages)


@pytest.fixture
def held() -> HeldWords:
    return HeldWords()


@pytest.fixture
def held_search(held: HeldWords) -> Any:
    index = PassageIndex.build(PASSAGES, encoder=held, lexical=False)
    yield TwoStageSearch(index, BioReranker(SharedWords()))
    held.go_on.set()


def test_the_event_loop_goes_on_while_the_first_stage_searches(held: HeldWords, held_search: TwoStageSearch) -> None:
    async def let_on() -> Any:
        searching = asyncio.create_task(held_search.asearch("statins muscle pain"))
        while not held.began.is_set():  # it waits in its thread for what only this loop gives
            await asyncio.sleep(0.001)
        held.go_on.set()
        return await searching

    assert asyncio.run(let_on())[0].passage.id == "b"


def test_a_time_limit_holds_for_the_first_stage_too(held_search: TwoStageSearch) -> None:
    with pytest.raises(ScoringTimeoutError, match=r"more than 0\.05 seconds"):
        asyncio.run(held_search.asearch("statins", timeout=0.05))


def test_a_search_that_is_cancelled_is_not_reranked(held: HeldWords, held_search: TwoStageSearch) -> None:
    asked: list[str] = []

    class Remembering(SharedWords):
        def logits(self, query: str, texts: Sequence[str]) -> list[float]:
            asked.append(query)
            return super().logits(query, texts)

    search = TwoStageSearch(held_search.index, BioReranker(Remembering()))

    async def cancelled() -> None:
        searching = asyncio.create_task(search.asearch("statins"))
        while not held.began.is_set():
            await asyncio.sleep(0.001)
        searching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await searching
        held.go_on.set()

    asyncio.run(cancelled())
    assert asked == []
