"""Retrieval measures over full judgements, computed by ``ir_measures``, and what is suspicious about judgements.

A run is ``{query id: {passage id: score}}``, judgements ("qrels") are ``{query id: {passage id: grade}}``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from biorerank_plugins.readers import Query

if TYPE_CHECKING:
    import ir_measures

Run: TypeAlias = Mapping[str, Mapping[str, float]]
Qrels: TypeAlias = Mapping[str, Mapping[str, int]]

DEFAULT_MEASURES = ("nDCG@10", "RR@10", "AP@10", "R@100")
"""Names as ``ir_measures`` writes them; the mean of ``RR@10`` is what is known as MRR@10."""

_LABELS = {"RR": "MRR", "AP": "MAP", "R": "recall"}
_NAMED = 3


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """What one run is worth.

    :param means: mean of each measure over every judged query.
    :param per_query: for each measure, the value of every judged query.
    """

    means: Mapping[str, float]
    per_query: Mapping[str, Mapping[str, float]]


def measure_label(name: str) -> str:
    """Return the usual name of a mean: the mean of ``RR@10`` is MRR@10.

    >>> measure_label("RR@10"), measure_label("R@100"), measure_label("nDCG@10")
    ('MRR@10', 'recall@100', 'nDCG@10')
    """
    measure, at, cutoff = name.partition("@")
    return f"{_LABELS.get(measure, measure)}{at}{cutoff}"


def run_from_order(orders: Mapping[str, Sequence[str]]) -> dict[str, dict[str, float]]:
    """Give every list a run whose measured order is the order of the list.

    Measures look at scores, never at positions, and break ties by passage id: trec_eval one way round, the
    MS MARCO script the other. trec_eval also reads scores as 32-bit floats, where close ones become ties. So the real
    scores are replaced by ``n, n - 1, … 1``, which both read as the order that a user sees.

    :param orders: for each query the passage ids, best first.
    :raises ValueError: if a list names a passage twice.

    >>> run_from_order({"q": ["b", "a"]})
    {'q': {'b': 2.0, 'a': 1.0}}
    """
    run = {}
    for query_id, ids in orders.items():
        run[query_id] = {passage_id: float(len(ids) - place) for place, passage_id in enumerate(ids)}
        if len(run[query_id]) != len(ids):
            raise ValueError(f"The list of query {query_id!r} names a passage twice; de-duplicate it first.")
    return run


def measure_run(run: Run, qrels: Qrels, measures: Iterable[str] = DEFAULT_MEASURES) -> MeasuredRun:
    """Measure a run against the full judgements.

    Every judged query counts: one that the run lacks, or has no passage for, is worth 0. Queries without judgements
    are left out.

    :param run: scores, higher is better.
    :param qrels: judgements; grades of 1 and more are relevant.
    :param measures: names that ``ir_measures`` knows.
    :raises ValueError: if there are no judgements, a score is not finite, or a measure is unknown.

    >>> measure_run({"q": {"a": 2.0, "b": 1.0}}, {"q": {"b": 1}}, ["RR@10"]).means
    {'RR@10': 0.5}
    """
    names = list(dict.fromkeys(measures))
    parsed = {_parse(name): name for name in names}
    if not any(qrels.values()):
        raise ValueError("There are no judgements to measure against: the qrels are empty.")
    judged = {query_id: dict(grades) for query_id, grades in sorted(qrels.items()) if grades}
    for query_id, scores in run.items():
        if wrong := {id_: score for id_, score in scores.items() if not math.isfinite(score)}:
            passage_id, score = next(iter(wrong.items()))
            raise ValueError(f"The run scores passage {passage_id!r} of query {query_id!r} with {score!r}.")
    # An empty list counts as a missing one: only for missing ones do all back ends promise the value 0.
    scored = {query_id: dict(run[query_id]) for query_id in judged if run.get(query_id)}

    import ir_measures

    per_query = {name: dict.fromkeys(judged, 0.0) for name in names}
    for metric in ir_measures.iter_calc(list(parsed), judged, scored):
        per_query[parsed[metric.measure]][metric.query_id] = float(metric.value)
    means = {name: math.fsum(values.values()) / len(values) for name, values in per_query.items()}
    return MeasuredRun(means, per_query)


def _parse(name: str) -> ir_measures.Measure:
    import ir_measures

    try:
        measure = ir_measures.parse_measure(name)
        repr(measure)  # stumbles over parameters that the measure does not have
        return measure
    except (NameError, ValueError, SyntaxError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"Unknown measure {name!r}; ir_measures knows for example nDCG@10, RR@10, R@100.") from error


def judged_queries(queries: Iterable[Query], judged: set[str]) -> list[Query]:
    """Return the questions that have judgements, in their order; raise ``ValueError`` if none has."""
    by_id: dict[str, Query] = {}
    for query in queries:
        if query.id in by_id:
            raise ValueError(f"The query id {query.id!r} occurs twice; ids must be unique.")
        by_id[query.id] = query
    asked = [query for query_id, query in by_id.items() if query_id in judged]
    if not asked:
        raise ValueError(
            f"None of the {len(by_id)} queries has a judgement: do the queries and the qrels belong together? "
            f"Judged are for example {', '.join(sorted(judged)[:_NAMED])}."
        )
    return asked


def doubts(
    qrels: Qrels, *, asked: Collection[str] | None = None, collection: Container[str] | None = None
) -> list[str]:
    """Return what looks wrong, one sentence each; nothing for judgements that fit.

    :param asked: the questions that are asked; ``None`` for all.
    :param collection: knows which passages there are; ``None`` if that is not known.

    >>> doubts({"q1": {"p1": 1, "p2": 1}}, collection={"p1"})
    ['1 of 2 relevant passages are not in the collection, such as p2; they count as not found.']
    """
    names = [name for name in qrels if qrels[name] and (asked is None or name in asked)]
    relevant = {name: [passage for passage, grade in qrels[name].items() if grade > 0] for name in names}
    without = [name for name in names if not relevant[name]]
    if names and len(without) == len(names):
        return [
            f"No passage is judged relevant: all {sum(len(qrels[name]) for name in names)} grades are 0 or less, so "
            "there is nothing to find."
        ]
    found = []
    if without:
        found.append(
            f"{len(without)} of {len(names)} judged questions have no passage with a grade above 0, such as "
            f"{', '.join(without[:_NAMED])}; there is nothing to find for them."
        )
    if collection is not None:
        wanted = dict.fromkeys(passage for passages in relevant.values() for passage in passages)
        missing = [passage for passage in wanted if passage not in collection]
        if missing:
            found.append(
                f"{len(missing)} of {len(wanted)} relevant passages are not in the collection, such as "
                f"{', '.join(missing[:_NAMED])}; they count as not found."
            )
    return found
