"""The parts of the evidence benchmarks that could be wrong without anybody noticing."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.quality import evidence, sentences, windows
from biorerank_plugins import BioReranker, Candidate, Passage, PassageIndex
from biorerank_plugins.readers import Query


def test_a_long_passage_holds_its_short_one_and_is_the_same_each_time():
    collection = windows.Collection([f"Abstract {n}." for n in range(20)])
    found = [Candidate(Passage(f"p{n}", f"Text {n}!"), float(n)) for n in range(200)]
    mixed = collection.mixed(found)
    assert mixed == collection.mixed(found[::-1])[::-1]
    parts = [one.passage.text.split("\n") for one in mixed]
    assert all(short.passage.text in own for short, own in zip(found, parts, strict=True))
    sizes = [len(own) for own in parts]
    assert 70 <= sizes.count(1) <= 130
    assert set(sizes) == {1, 3, 4, 5, 6, 7}
    places = {own.index(short.passage.text) for short, own in zip(found, parts, strict=True) if len(own) == 7}
    assert len(places) > 3
    assert [(one.score, one.passage.id) for one in mixed] == [(one.score, one.passage.id) for one in found]


def test_the_error_by_chance_falls_with_the_number_of_passages():
    small, large = (windows.by_chance(np.linspace(0.1, 0.9, n).tolist(), 5) for n in (50, 5000))
    assert small > 3 * large > 0
    # One bin of n probabilities of a half: the mean absolute deviation of a mean of n coins.
    assert windows.by_chance([0.5] * 400, 1) == pytest.approx(0.5 / 20 * np.sqrt(2 / np.pi), rel=0.1)


def test_neighbours_of_a_sentence():
    text = ["T.", "A.", "B.", "C."]
    ways = {name: [way(text, n) for n in range(4)] for name, way in sentences.TEXTS.items()}
    assert ways == {
        "alone": text,
        "with the one before": ["T.", "T. A.", "A. B.", "B. C."],
        "with the one after": ["T. A.", "A. B.", "B. C.", "C."],
        "with both neighbours": ["T. A.", "T. A. B.", "A. B. C.", "B. C."],
        "with the title": ["T.", "T. A.", "T. B.", "T. C."],
    }


def test_average_precision_by_hand():
    one = sentences.Abstract("a", "q", ["x", "y", "z"], [0, 1, 1])
    assert sentences.average_precisions([one], [np.array([0.5, 0.9, 0.1])]) == {"a": pytest.approx((1 + 2 / 3) / 2)}
    assert sentences.average_precisions([one], [np.zeros(3)]) == {"a": pytest.approx((1 / 2 + 2 / 3) / 2)}


def test_evidence_is_taken_away_with_all_that_repeats_it():
    texts = {
        "a": "Idarucizumab reverses dabigatran within minutes.",
        "b": "Idarucizumab reverses dabigatran within minutes, it is said.",  # a near-duplicate
        "c": "Metformin is taken with meals.",
        "d": "Rats sleep by day.",
    }
    reranker = BioReranker(cache_bytes=1_000_000)
    questions = [Query("q1", "What reverses dabigatran?"), Query("q2", "When do rats sleep?"), Query("q3", "Why?")]
    qrels = {"q1": {"a": 1}, "q2": {"d": 1, "c": 0}, "q3": {"gone": 1}}
    with PassageIndex.build([Passage(id_, text) for id_, text in texts.items()]) as index:
        told = evidence.told_of(questions, qrels, index, reranker, candidates=4)
    own, plain = told["as a search"], told["as plain texts"]
    assert own["questions"] == plain["questions"] == 2  # the evidence of the third is nowhere
    assert (own["top 10"]["n"], own["top 10"]["base_rate"]) == (8, 0.25)
    for states in (own["with evidence"], plain["without evidence"]):
        assert sum(states.values()) == pytest.approx(1)
    without = reranker.rank(questions[0].text, [texts["c"], texts["d"]], fusion=None).answerability
    assert without is not None and without.state == "nothing"
    assert plain["without evidence"]["nothing"] >= 0.5
    assert own["auroc of the three answers"] == plain["auroc of the three answers"] == 1.0
