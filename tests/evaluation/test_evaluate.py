"""evaluate_systems with one reranker over one first stage, on a collection small enough to work out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
from support.evaluation import PASSAGES, QRELS, QUERIES, CountWords
from support.scorers import shared_words, unused

from biorerank_plugins import BioReranker, PassageIndex
from biorerank_plugins.evaluation import SystemsReport, evaluate_systems
from biorerank_plugins.readers import Query


@pytest.fixture
def index() -> PassageIndex:
    return PassageIndex.build(PASSAGES, encoder=CountWords())


def _evaluate(index: PassageIndex, qrels: dict[str, dict[str, int]] | None = None, **options: Any) -> SystemsReport:
    options = {"first_stages": ["dense"], "rerankers": BioReranker(shared_words()), **options}
    return evaluate_systems(index, QUERIES, QRELS if qrels is None else qrels, **options)


def test_both_lists_are_measured(index: PassageIndex) -> None:
    """q1: the first stage puts noise (3) before right (3 too, but later); the reranker right (3) before noise (1)."""
    report = _evaluate(index)
    before, after = report.systems["dense"], report.systems["dense+reranker"]
    assert before.order["q1"] == ["noise", "right", "other"]
    assert after.order["q1"] == ["right", "noise", "other"]
    assert before.measured.per_query["RR@10"] == {"q1": 0.5, "q2": 1.0}
    assert after.measured.means["RR@10"] == 1.0
    assert report.comparisons["dense+reranker"]["nDCG@10"].delta == pytest.approx((1 - 1 / math.log2(3)) / 2)
    assert (len(report.queries), report.n_unasked, sum(map(len, after.order.values()))) == (2, 0, 6)


def test_one_reranker_needs_no_name_and_the_index_says_which_first_stage(index: PassageIndex) -> None:
    report = evaluate_systems(index, QUERIES, QRELS, rerankers=BioReranker(shared_words()), fusion=0.5)
    assert list(report.systems) == ["hybrid", "hybrid+reranker", "hybrid+reranker+fusion"]
    assert report.baseline == "hybrid"


def test_the_first_stage_can_be_chosen(index: PassageIndex) -> None:
    """By words alone the passage that holds all of them comes first, and one without any is not found."""
    report = _evaluate(index, first_stages=["lexical"])
    assert report.systems["lexical"].order["q1"] == ["right", "noise"]


def test_queries_without_judgements_are_not_run(index: PassageIndex) -> None:
    assert set(_evaluate(index).systems["dense+reranker"].order) == {"q1", "q2"}


def test_a_judged_query_without_text_counts_as_zero(index: PassageIndex) -> None:
    report = _evaluate(index, {**QRELS, "q3": {"noise": 1}, "q4": {"noise": 1}})
    assert report.systems["dense+reranker"].measured.means["RR@10"] == 0.5
    assert (len(report.queries), report.n_unasked) == (4, 2)


def test_lists_hold_the_candidates_and_no_more(index: PassageIndex) -> None:
    reranked = _evaluate(index, candidates=1).systems["dense+reranker"]
    assert reranked.order == {"q1": ["noise"], "q2": ["other"]}
    assert reranked.measured.means["R@100"] == 0.5


def test_what_it_costs_is_told(index: PassageIndex) -> None:
    system = _evaluate(index).systems["dense+reranker"]
    for latency in (system.first_stage_latency, system.rerank_latency):
        assert latency is not None
        assert 0 < latency.median_ms <= latency.p95_ms
        assert 0 < latency.mean_ms
    assert system.pairs_per_second is not None and system.pairs_per_second > 0


def test_queries_are_read_once(index: PassageIndex) -> None:
    queries = [Query(f"q{number}", "gout uric acid") for number in range(40)]
    qrels = {query.id: {"right": 1} for query in queries}
    report = evaluate_systems(index, iter(queries), qrels, rerankers=BioReranker(shared_words()))
    reranked = report.systems["hybrid+reranker"]
    assert sum(map(len, reranked.order.values())) == 120
    assert set(reranked.measured.per_query["RR@10"].values()) == {1.0}


def test_progress_goes_to_stderr(index: PassageIndex, capsys: pytest.CaptureFixture[str]) -> None:
    _evaluate(index, show_progress=True)
    shown = capsys.readouterr()
    assert "2/2" in shown.err
    assert shown.out == ""


def test_queries_and_judgements_that_do_not_belong_together_are_refused(index: PassageIndex) -> None:
    with pytest.raises(ValueError, match=r"None of the 3 queries has a judgement.*other-1"):
        _evaluate(index, {"other-1": {"right": 1}})


def test_a_query_id_that_occurs_twice_is_refused(index: PassageIndex) -> None:
    with pytest.raises(ValueError, match="'q1' occurs twice"):
        evaluate_systems(index, [QUERIES[0], QUERIES[0]], QRELS, rerankers=BioReranker(shared_words()))


def test_wrong_measures_are_refused_before_anything_is_scored(index: PassageIndex) -> None:
    with pytest.raises(ValueError, match="Unknown measure 'speed'"):
        _evaluate(index, rerankers=BioReranker(unused()), measures=["speed"])
