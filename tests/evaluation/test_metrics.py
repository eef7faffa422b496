"""Measures against values worked out by hand and against a slow reference."""

from __future__ import annotations

import math

import numpy as np
import pytest

from biorerank_plugins.evaluation import measure_run, run_from_order

ALL = ("nDCG@10", "RR@10", "AP@10", "R@100")


def test_values_can_be_worked_out_by_hand() -> None:
    """Relevant: b (grade 2) at rank 2, d (grade 1) at rank 4, e (grade 1) not found."""
    run = run_from_order({"q": ["a", "b", "c", "d"]})
    means = measure_run(run, {"q": {"b": 2, "d": 1, "e": 1}}).means
    ideal = 2 / math.log2(2) + 1 / math.log2(3) + 1 / math.log2(4)
    assert means["nDCG@10"] == pytest.approx((2 / math.log2(3) + 1 / math.log2(5)) / ideal)
    assert means["RR@10"] == pytest.approx(1 / 2)
    assert means["AP@10"] == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert means["R@100"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("missing", [{}, {"q2": {}}])
def test_a_judged_query_without_results_counts_as_zero(missing: dict[str, dict[str, float]]) -> None:
    run = {"q1": {"a": 1.0}, **missing}
    measured = measure_run(run, {"q1": {"a": 1}, "q2": {"b": 1}}, ALL)
    assert measured.means == dict.fromkeys(ALL, 0.5)
    assert all(values == {"q1": 1.0, "q2": 0.0} for values in measured.per_query.values())


def test_an_empty_run_is_worth_nothing() -> None:
    assert measure_run({}, {"q": {"a": 1}}, ALL).means == dict.fromkeys(ALL, 0.0)


def test_a_query_judged_to_have_no_answer_counts_too() -> None:
    measured = measure_run({"q1": {"a": 1.0}, "q2": {"a": 1.0}}, {"q1": {"a": 1}, "q2": {"a": 0}}, ALL)
    assert measured.means == dict.fromkeys(ALL, 0.5)


def test_queries_without_judgements_are_left_out() -> None:
    run = {"q1": {"a": 1.0}, "extra": {"z": 1.0}}
    measured = measure_run(run, {"q1": {"a": 1}, "empty": {}}, ALL)
    assert all(set(values) == {"q1"} for values in measured.per_query.values())


def test_the_order_of_a_list_is_the_order_that_is_measured() -> None:
    """With equal scores trec_eval and the MS MARCO script order by id, in opposite directions."""
    for order in (["a", "b"], ["b", "a"]):
        tied = {"q": dict.fromkeys(order, 0.5)}
        means = measure_run(tied, {"q": {"a": 1}}, ["nDCG@10", "RR@10"]).means
        assert (means["nDCG@10"] == 1.0) != (means["RR@10"] == 1.0)
    first = measure_run(run_from_order({"q": ["a", "b"]}), {"q": {"a": 1}}, ALL)
    second = measure_run(run_from_order({"q": ["b", "a"]}), {"q": {"a": 1}}, ["RR@10", "nDCG@10"])
    assert first.means == dict.fromkeys(ALL, 1.0)
    assert second.means == {"RR@10": 0.5, "nDCG@10": pytest.approx(1 / math.log2(3))}


def test_the_order_survives_in_long_lists() -> None:
    """Scores are read as 32-bit floats: 1 - 1e-9 * rank would make ties."""
    ids = [f"p{number:05d}" for number in range(20_000)]
    assert measure_run(run_from_order({"q": ids}), {"q": {ids[99]: 1}}, ["R@100"]).means == {"R@100": 1.0}
    assert measure_run(run_from_order({"q": ids}), {"q": {ids[100]: 1}}, ["R@100"]).means == {"R@100": 0.0}


def test_measures_agree_with_a_slow_reference() -> None:
    rng = np.random.default_rng(7)
    ids = [f"p{number}" for number in range(150)]
    orders = {f"q{number}": list(rng.permutation(ids)[: rng.integers(0, 150)]) for number in range(40)}
    qrels = {
        query_id: {str(passage_id): int(rng.integers(0, 3)) for passage_id in rng.permutation(ids)[:20]}
        for query_id in orders
    }
    measured = measure_run(run_from_order(orders), qrels, ALL)
    for query_id, order in orders.items():
        expected = _reference(order, qrels[query_id])
        got = {name: measured.per_query[name][query_id] for name in ALL}
        assert got == pytest.approx(expected, abs=1e-6)


def _reference(order: list[str], grades: dict[str, int]) -> dict[str, float]:
    gains = [grades.get(passage_id, 0) for passage_id in order]
    best = sorted(grades.values(), reverse=True)
    n_relevant = sum(grade > 0 for grade in grades.values())
    hits = [gain > 0 for gain in gains]
    return {
        "nDCG@10": _dcg(gains) / _dcg(best),
        "RR@10": next((1 / rank for rank, hit in enumerate(hits[:10], start=1) if hit), 0.0),
        "AP@10": sum(sum(hits[:rank]) / rank for rank in range(1, 11) if rank <= len(hits) and hits[rank - 1])
        / n_relevant,
        "R@100": sum(hits[:100]) / n_relevant,
    }


def _dcg(gains: list[int]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains[:10], start=1))


def test_a_passage_listed_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="'q' names a passage twice"):
        run_from_order({"q": ["a", "b", "a"]})


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_refused(score: float) -> None:
    with pytest.raises(ValueError, match="'a' of query 'q'"):
        measure_run({"q": {"a": score}}, {"q": {"a": 1}})


@pytest.mark.parametrize("qrels", [{}, {"q": {}}])
def test_empty_judgements_are_refused(qrels: dict[str, dict[str, int]]) -> None:
    with pytest.raises(ValueError, match="no judgements"):
        measure_run({"q": {"a": 1.0}}, qrels)


@pytest.mark.parametrize("name", ["nDGC@10", "nDCG@ten", "nDCG(x=1)@10", "", "__import__('os')"])
def test_an_unknown_measure_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="Unknown measure"):
        measure_run({}, {"q": {"a": 1}}, [name])
