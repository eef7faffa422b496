"""evaluate_two_stage on a collection small enough to work out by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from support.evaluation import PASSAGES, QRELS, QUERIES, CountWords
from support.scorers import shared_words, unused

from biorerank_plugins import BioReranker, PassageIndex
from biorerank_plugins.evaluation import EvaluationReport, evaluate_two_stage
from biorerank_plugins.readers import Query


@pytest.fixture
def index() -> PassageIndex:
    return PassageIndex.build(PASSAGES, encoder=CountWords())


def _evaluate(index: PassageIndex, qrels: dict[str, dict[str, int]] | None = None, **options: Any) -> EvaluationReport:
    options.setdefault("first_stage", "dense")
    return evaluate_two_stage(index, BioReranker(shared_words()), QUERIES, QRELS if qrels is None else qrels, **options)


def test_both_lists_are_measured(index: PassageIndex) -> None:
    """q1: the first stage puts noise (3) before right (3 too, but later); the reranker right (3) before noise (1)."""
    report = _evaluate(index)
    assert list(report.first_stage_run["q1"]) == ["noise", "right", "other"]
    assert list(report.reranked_run["q1"]) == ["right", "noise", "other"]
    assert report.first_stage.per_query["RR@10"] == {"q1": 0.5, "q2": 1.0}
    assert report.reranked.means["RR@10"] == 1.0
    assert report.comparisons["nDCG@10"].delta == pytest.approx((1 - 1 / math.log2(3)) / 2)
    assert (report.n_queries, report.n_unasked, report.n_pairs) == (2, 0, 6)


def test_the_first_stage_can_be_chosen(index: PassageIndex) -> None:
    """By words alone the passage that holds all of them comes first, and one without any is not found."""
    report = _evaluate(index, first_stage="lexical")
    assert list(report.first_stage_run["q1"]) == ["right", "noise"]


def test_queries_without_judgements_are_not_run(index: PassageIndex) -> None:
    assert set(_evaluate(index).reranked_run) == {"q1", "q2"}


def test_a_judged_query_without_text_counts_as_zero(index: PassageIndex) -> None:
    report = _evaluate(index, {**QRELS, "q3": {"noise": 1}, "q4": {"noise": 1}})
    assert report.reranked.means["RR@10"] == 0.5
    assert (report.n_queries, report.n_unasked) == (4, 2)


def test_lists_hold_the_candidates_and_no_more(index: PassageIndex) -> None:
    report = _evaluate(index, candidates=1)
    assert report.reranked_run == {"q1": {"noise": 1.0}, "q2": {"other": 1.0}}
    assert report.reranked.means["R@100"] == 0.5


def test_the_report_is_json(index: PassageIndex) -> None:
    report = _evaluate(index, measures=["nDCG@10", "R@5"])
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert document["queries"] == 2
    assert document["measures"]["R@5"]["value"] == 1.0
    assert document["per_query"]["nDCG@10"]["q1"]["reranked"] == 1.0
    assert document["rerank_pairs_per_second"] > 0
    assert document["first_stage_ms_per_query"] > 0
    assert report.to_dict(per_query=False)["per_query"] == {}


def test_more_queries_than_one_batch(index: PassageIndex) -> None:
    queries = [Query(f"q{number}", "gout uric acid") for number in range(40)]
    qrels = {query.id: {"right": 1} for query in queries}
    report = evaluate_two_stage(index, BioReranker(shared_words()), iter(queries), qrels)
    assert report.n_pairs == 120
    assert set(report.reranked.per_query["RR@10"].values()) == {1.0}


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
        evaluate_two_stage(index, BioReranker(shared_words()), [QUERIES[0], QUERIES[0]], QRELS)


def test_wrong_measures_are_refused_before_anything_is_scored(index: PassageIndex) -> None:
    with pytest.raises(ValueError, match="Unknown measure 'speed'"):
        evaluate_two_stage(index, BioReranker(unused()), QUERIES, QRELS, measures=["speed"])
