"""Doubts about judgements: what is missing from the collection, and what calls nothing relevant."""

from __future__ import annotations

import pytest

from biorerank_plugins.evaluation.metrics import doubts

GOOD = {"q1": {"p1": 2, "p2": 0}, "q2": {"p3": 1}}


@pytest.mark.parametrize("options", [{}, {"collection": {"p1", "p3"}}, {"asked": {"q1"}, "collection": {"p1"}}])
def test_judgements_that_fit_raise_no_doubt(options):
    assert doubts(GOOD, **options) == []
    assert doubts({}) == doubts({"q1": {}}, collection=set()) == []


def test_relevant_passages_that_are_missing_are_counted_once_and_named():
    qrels = {"q1": {"p1": 1, "p9": 1, "gone": 0}, "q2": {"p9": 1, "p8": 3}}
    assert doubts(qrels, collection={"p1"}) == [
        "2 of 3 relevant passages are not in the collection, such as p9, p8; they count as not found."
    ]
    assert doubts(qrels, collection={"p1"}, asked={"q1"})[0].startswith("1 of 2 relevant passages")


def test_grades_that_are_all_zero():
    [doubt] = doubts({"q1": {"p1": 0}, "q2": {"p2": 0, "p3": -1}}, collection=set())
    assert doubt == "No passage is judged relevant: all 3 grades are 0 or less, so there is nothing to find."


def test_questions_without_a_relevant_passage():
    [doubt] = doubts({**GOOD, "q3": {"p1": 0}}, collection={"p1", "p3"})
    assert doubt.startswith("1 of 3 judged questions have no passage with a grade above 0, such as q3")
