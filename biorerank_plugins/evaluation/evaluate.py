"""Measure the two stages on judged questions: what the first stage finds, and what reranking makes of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from biorerank_plugins._common.progress import progress_bar
from biorerank_plugins.evaluation.metrics import (
    DEFAULT_MEASURES,
    MeasuredRun,
    Qrels,
    measure_run,
    run_from_order,
)
from biorerank_plugins.evaluation.significance import METHOD, Comparison, compare
from biorerank_plugins.passages import Ranking
from biorerank_plugins.two_stage import TwoStageSearch

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.arguments import FirstStage
    from biorerank_plugins.first_stage.index import PassageIndex
    from biorerank_plugins.readers import Query
    from biorerank_plugins.reranking.reranker import BioReranker
    from biorerank_plugins.scale.sharded import ShardedIndex

__all__ = ["EvaluationReport", "evaluate_two_stage", "judged_queries"]

_QUERIES_AT_ONCE = 16  # enough pairs for full batches, and a progress bar that moves


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """What :func:`evaluate_two_stage` found.

    :param n_queries: judged queries, all of which count in every mean.
    :param n_unasked: how many of them had no text, so that they count as 0.
    :param n_pairs: query-passage pairs that were reranked.
    :param candidates: how many passages the first stage handed over.
    :param first_stage: measures of the first stage's lists.
    :param reranked: measures of the reranked lists.
    :param comparisons: for each measure, reranked against first stage.
    :param first_stage_run: the lists themselves; scores encode the order (see :func:`run_from_order`).
    :param reranked_run: likewise, reranked.
    :param first_stage_seconds: time spent embedding queries and searching the index.
    :param rerank_seconds: time spent reranking.
    """

    n_queries: int
    n_unasked: int
    n_pairs: int
    candidates: int
    first_stage: MeasuredRun
    reranked: MeasuredRun
    comparisons: Mapping[str, Comparison]
    first_stage_run: Mapping[str, Mapping[str, float]]
    reranked_run: Mapping[str, Mapping[str, float]]
    first_stage_seconds: float
    rerank_seconds: float

    @property
    def first_stage_ms_per_query(self) -> float:
        """Milliseconds a query spends in the first stage, on average."""
        return 1000 * self.first_stage_seconds / max(self.n_queries - self.n_unasked, 1)

    @property
    def rerank_pairs_per_second(self) -> float:
        """Pairs reranked in a second, 0 if there were none."""
        return self.n_pairs / self.rerank_seconds if self.rerank_seconds > 0 else 0.0

    def to_dict(self, *, per_query: bool = True) -> dict[str, Any]:
        """Return the report as plain JSON types, without the runs.

        :param per_query: also list the values of every query.
        """
        return {
            "queries": self.n_queries,
            "queries_without_text": self.n_unasked,
            "candidates": self.candidates,
            "pairs": self.n_pairs,
            "measures": {name: comparison.to_dict() for name, comparison in self.comparisons.items()},
            "method": METHOD,
            "first_stage_seconds": self.first_stage_seconds,
            "first_stage_ms_per_query": self.first_stage_ms_per_query,
            "rerank_seconds": self.rerank_seconds,
            "rerank_pairs_per_second": self.rerank_pairs_per_second,
            "per_query": self._per_query() if per_query else {},
        }

    def _per_query(self) -> dict[str, Any]:
        return {
            name: {
                query_id: {"first_stage": value, "reranked": self.reranked.per_query[name][query_id]}
                for query_id, value in values.items()
            }
            for name, values in self.first_stage.per_query.items()
        }


@dataclass
class _Lists:
    """Lists of passage ids by query, and what they cost."""

    found: dict[str, list[str]] = field(default_factory=dict)
    reranked: dict[str, list[str]] = field(default_factory=dict)
    first_stage_seconds: float = 0.0
    rerank_seconds: float = 0.0

    def add(self, query_id: str, ranking: Ranking) -> None:
        # No threshold and no de-duplication is asked for: the ranking holds every candidate, in a new order.
        self.found[query_id] = [ranked.passage.id for ranked in sorted(ranking, key=lambda r: r.input_index)]
        self.reranked[query_id] = [ranked.passage.id for ranked in ranking]


def evaluate_two_stage(
    index: PassageIndex | ShardedIndex,
    reranker: BioReranker,
    queries: Iterable[Query],
    qrels: Qrels,
    *,
    first_stage: FirstStage = "hybrid",
    candidates: int = 100,
    fusion: float | Literal["stored"] | None = "stored",
    measures: Iterable[str] = DEFAULT_MEASURES,
    show_progress: bool = False,
) -> EvaluationReport:
    """Run judged queries through :class:`TwoStageSearch` and measure the lists before and after reranking.

    Both lists hold the first stage's ``candidates`` passages, as a user's search does: a measure that looks deeper
    than that sees no more. Means are over all judged queries: one without text or without results counts 0.

    :param index: the passages.
    :param reranker: the reranker.
    :param queries: the questions; those without judgements are not run.
    :param qrels: judgements, ``{query id: {passage id: grade}}``.
    :param first_stage: how candidates are found, as :class:`TwoStageSearch` takes it.
    :param candidates: how many passages the first stage hands over.
    :param fusion: weight of the first stage's scores, as :meth:`TwoStageSearch.search` takes it.
    :param measures: names that ``ir_measures`` knows.
    :param show_progress: show a progress bar on stderr.
    :raises ValueError: if no query has judgements, an id occurs twice, or a measure is unknown.

    >>> report = evaluate_two_stage(index, reranker, queries, qrels)  # doctest: +SKIP
    >>> report.comparisons["nDCG@10"].delta                            # doctest: +SKIP
    0.064
    """
    names = list(dict.fromkeys(measures))
    measure_run({}, qrels, names)  # a wrong name or empty judgements show before an hour of scoring, not after
    judged = {query_id for query_id, grades in qrels.items() if grades}
    asked = judged_queries(queries, judged)
    search = TwoStageSearch(index, reranker, first_stage=first_stage)
    lists = _run(search, asked, candidates, fusion, show_progress)
    first_stage_run, reranked_run = run_from_order(lists.found), run_from_order(lists.reranked)
    before, after = measure_run(first_stage_run, qrels, names), measure_run(reranked_run, qrels, names)
    return EvaluationReport(
        n_queries=len(judged),
        n_unasked=len(judged) - len(asked),
        n_pairs=sum(len(ids) for ids in lists.found.values()),
        candidates=candidates,
        first_stage=before,
        reranked=after,
        comparisons={name: compare(before.per_query[name], after.per_query[name]) for name in names},
        first_stage_run=first_stage_run,
        reranked_run=reranked_run,
        first_stage_seconds=lists.first_stage_seconds,
        rerank_seconds=lists.rerank_seconds,
    )


def judged_queries(queries: Iterable[Query], judged: set[str]) -> list[Query]:
    """Return the questions that have judgements, in their order.

    :param queries: the questions.
    :param judged: ids of the questions with judgements.
    :raises ValueError: if an id occurs twice, or no question has judgements.
    """
    by_id: dict[str, Query] = {}
    for query in queries:
        if query.id in by_id:
            raise ValueError(f"The query id {query.id!r} occurs twice; ids must be unique.")
        by_id[query.id] = query
    asked = [query for query_id, query in by_id.items() if query_id in judged]
    if not asked:
        raise ValueError(
            f"None of the {len(by_id)} queries has a judgement: do the queries and the qrels belong together? "
            f"Judged are for example {', '.join(sorted(judged)[:3])}."
        )
    return asked


def _run(
    search: TwoStageSearch,
    queries: Sequence[Query],
    candidates: int,
    fusion: float | Literal["stored"] | None,
    show_progress: bool,
) -> _Lists:
    lists = _Lists()
    search.reranker.warm_up()  # loading the model is no part of what reranking costs
    with progress_bar(show_progress, total=len(queries), desc="Searching and reranking", unit="query") as bar:
        for chunk in _chunks(queries, _QUERIES_AT_ONCE):
            start = time.perf_counter()
            rankings = search.search_many([query.text for query in chunk], candidates=candidates, fusion=fusion)
            seconds = time.perf_counter() - start
            first_stage = rankings[0].timings["first_stage"]  # of the whole call, as in every other ranking of it
            lists.first_stage_seconds += first_stage
            lists.rerank_seconds += seconds - first_stage
            for query, ranking in zip(chunk, rankings, strict=True):
                lists.add(query.id, ranking)
            bar.update(len(chunk))
    return lists


def _chunks(queries: Sequence[Query], size: int) -> Iterator[Sequence[Query]]:
    for start in range(0, len(queries), size):
        yield queries[start : start + size]
