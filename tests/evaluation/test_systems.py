"""Several systems at once, on a collection small enough to work out by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from support.evaluation import PASSAGES, QRELS, QUERIES, CountWords
from support.scorers import shared_words, short_first, unused

from biorerank_plugins import BioReranker, PassageIndex, TwoStageSearch
from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.evaluation import (
    SystemsReport,
    compare,
    corrected,
    evaluate_systems,
    measure_run,
    run_from_order,
)
from biorerank_plugins.evaluation.results import write_per_query


@pytest.fixture(scope="module")
def index() -> PassageIndex:
    return PassageIndex.build(PASSAGES, encoder=CountWords())


def _evaluate(index: PassageIndex | None, **options: Any) -> SystemsReport:
    return evaluate_systems(index, QUERIES, QRELS, **options)


def test_every_combination_is_a_system(index: PassageIndex) -> None:
    report = _evaluate(
        index,
        first_stages=["dense", "lexical"],
        rerankers={"words": BioReranker(shared_words()), "short": BioReranker(short_first())},
        runs={"mine": {"q1": {"right": 1.0}}},
        fusion=0.5,
    )
    assert list(report.systems) == [
        "dense", "dense+words", "dense+words+fusion", "dense+short", "dense+short+fusion",
        "lexical", "lexical+words", "lexical+words+fusion", "lexical+short", "lexical+short+fusion", "mine",
    ]  # fmt: skip
    assert report.baseline == "dense"
    assert set(report.comparisons) == set(report.systems) - {"dense"}
    assert report.systems["dense+words+fusion"].fusion == 0.5


@pytest.mark.parametrize("first_stage", ["dense", "lexical", "hybrid"])
@pytest.mark.parametrize("weight", [None, 0.7])
def test_a_system_is_what_a_two_stage_search_gives(index: PassageIndex, first_stage: Any, weight: float | None) -> None:
    reranker = BioReranker(shared_words())
    search = TwoStageSearch(index, reranker, first_stage=first_stage)
    rankings = {query.id: search.search(query.text, candidates=2, fusion=weight) for query in QUERIES[:2]}
    report = _evaluate(index, first_stages=[first_stage], rerankers={"words": reranker}, candidates=2, fusion=weight)
    name = f"{first_stage}+words" if weight is None else f"{first_stage}+words+fusion"
    for query_id, ranking in rankings.items():
        found = sorted(ranking, key=lambda ranked: ranked.input_index)
        assert report.systems[first_stage].order[query_id] == [ranked.passage.id for ranked in found]
        assert report.systems[name].order[query_id] == [ranked.passage.id for ranked in ranking]
    assert report.systems[name].measured == measure_run(run_from_order(report.systems[name].order), QRELS)


def test_each_pair_is_scored_once(index: PassageIndex) -> None:
    model = shared_words()
    report = _evaluate(
        index, first_stages=["dense", "lexical", "hybrid"], rerankers={"words": BioReranker(model)}, fusion=1.0
    )
    pairs = [(call.query, text) for call in model.calls for text in call.texts]
    assert len(pairs) == len(set(pairs)) == 6  # two judged questions, three passages
    assert set(report.systems["dense+words"].depth) == {5, 10, 20, 50, 100}


def test_depth_is_that_of_fewer_candidates(index: PassageIndex) -> None:
    """With one candidate of q1 the reranker cannot bring the right passage up: it was second."""
    reranker = BioReranker(shared_words())
    curve = _evaluate(index, first_stages=["dense"], rerankers={"w": reranker}, candidates=6).systems["dense+w"].depth
    assert list(curve) == [5, 6]
    short = _evaluate(index, first_stages=["dense"], rerankers={"w": reranker}, candidates=1).systems["dense+w"]
    assert short.depth == {1: short.measured.means["nDCG@10"]} == {1: 0.5}


def test_p_values_are_corrected_over_the_systems(index: PassageIndex) -> None:
    report = _evaluate(
        index,
        first_stages=["dense"],
        rerankers={"words": BioReranker(shared_words()), "short": BioReranker(short_first())},
        baseline="dense+short",
    )
    measured = {name: system.measured.per_query["nDCG@10"] for name, system in report.systems.items()}
    before = measured.pop("dense+short")
    expected = corrected({name: compare(before, values) for name, values in measured.items()})
    assert {name: by_measure["nDCG@10"] for name, by_measure in report.comparisons.items()} == expected


def test_wins_and_losses_show_what_moved(index: PassageIndex) -> None:
    report = _evaluate(
        index, first_stages=["dense"], rerankers={"words": BioReranker(shared_words())}, runs={"none": {"q9": {"a": 1}}}
    )
    (gain,) = report.changes["dense+words"].gains
    assert (gain.query_id, gain.query) == ("q1", "gout uric acid")
    assert gain.before is not None and gain.after is not None
    assert (gain.before.id, gain.before.grade, gain.after.id, gain.after.grade) == ("noise", 0, "right", 1)
    assert gain.after.text == "gout uric acid"
    losses = report.changes["none"].losses
    assert [loss.query_id for loss in losses] == ["q2", "q1"]  # the largest first
    assert losses[0].after is None


def test_runs_alone_need_no_index() -> None:
    runs = {"a": {"q1": {"right": 2.0, "noise": 1.0}, "q2": {"other": 1.0}}, "b": {"q1": {"noise": 1.0}, "zz": {}}}
    report = evaluate_systems(None, [], QRELS, runs=runs)
    assert report.systems["a"].measured.means["nDCG@10"] == 1.0
    assert report.systems["b"].measured.means["nDCG@10"] == 0.0
    assert report.notes == [
        "1 of 2 questions of the run 'b' have no judgements and are left out.",
        "The run 'b' has no results for 1 of 2 judged questions, which count as 0.",
    ]


def test_equal_scores_of_a_run_are_ordered_as_trec_eval_does() -> None:
    run = {"q1": {"a": 1.0, "c": 1.0, "b": 2.0}}
    report = evaluate_systems(None, [], {"q1": {"c": 1}}, runs={"run": run}, measures=["nDCG@10", "RR@10"])
    assert report.systems["run"].order == {"q1": ["b", "c", "a"]}
    assert report.systems["run"].measured.means["RR@10"] == 0.5


def test_data_that_do_not_belong_together_are_told(index: PassageIndex) -> None:
    report = evaluate_systems(index, QUERIES, {"q1": {"elsewhere": 1}, "lost": {"right": 1}}, first_stages=["dense"])
    assert report.systems["dense"].measured.means["R@100"] == 0.0
    assert report.n_unasked == 1
    assert any("No passage that dense found is judged" in note for note in report.notes)
    assert any("1 judged questions have no text" in note for note in report.notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": "nobody"}, r"baseline 'nobody' is none of the systems: dense, dense\+w"),
        ({"runs": {"dense": {"q1": {"a": 1.0}}}}, "Two systems have the name 'dense'"),
        ({"first_stages": ["dense", "dense"]}, "Two systems have the name 'dense'"),
        ({"first_stages": ["sparse"]}, "'sparse' is unknown"),
        ({"measures": ["speed"]}, "Unknown measure 'speed'"),
        ({"measures": []}, "at least one measure"),
        ({"candidates": 0}, "candidates"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_scored(
    index: PassageIndex, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _evaluate(index, **{"first_stages": ["dense"], "rerankers": {"w": BioReranker(unused())}, **options})


def test_what_needs_passages_needs_an_index() -> None:
    with pytest.raises(ValueError, match="need an index"):
        _evaluate(None, rerankers={"w": BioReranker(shared_words())})
    with pytest.raises(ValueError, match="nothing to measure"):
        _evaluate(None)
    dense_only = PassageIndex.build(PASSAGES, encoder=CountWords(), lexical=False)
    with pytest.raises(PassageIndexError, match="lexical part"):
        _evaluate(dense_only, first_stages=["hybrid"])
    assert list(_evaluate(dense_only).systems) == ["dense"]


def test_empty_judgements_are_refused(index: PassageIndex) -> None:
    with pytest.raises(ValueError, match="no judgements"):
        evaluate_systems(index, QUERIES, {"q1": {}})


def test_the_result_is_json_and_csv(index: PassageIndex, tmp_path: Path) -> None:
    report = _evaluate(index, first_stages=["dense"], rerankers={"words": BioReranker(shared_words())})
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert document["systems"]["dense+words"]["means"]["nDCG@10"] == 1.0
    assert document["systems"]["dense+words"]["rerank_latency"]["median_ms"] > 0
    assert document["systems"]["dense"]["pairs_per_second"] is None
    assert document["comparisons"]["dense+words"]["nDCG@10"]["holm"]["p_t"] is not None
    path = tmp_path / "values.csv"
    write_per_query(report, path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert rows[1]["query"] == "gout uric acid"
    assert {row["system"]: float(row["RR@10"]) for row in rows if row["query_id"] == "q1"} == {
        "dense": 0.5, "dense+words": 1.0,
    }  # fmt: skip
