"""A sentence with its context: the sentence first, nothing twice."""

from __future__ import annotations

import pytest

from biorerank_plugins.text.sentence_context import in_context, sentences_in_context
from biorerank_plugins.text.sentences import split_sentences


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ((), "It fell."),
        ((None, "", "  "), "It fell."),
        (("It fell.",), "It fell."),
        (("IL-6", "IL-6"), "It fell. [IL-6.]"),
        (("Is IL-6 high?", "IL-6 rose"), "It fell. [Is IL-6 high? IL-6 rose.]"),
    ],
)
def test_context_follows_in_brackets_and_says_nothing_twice(context: tuple[str | None, ...], expected: str):
    assert in_context("It fell.", *context) == expected


def test_a_sentence_knows_its_title_and_the_one_before():
    text = "Dabigatran inhibits thrombin. Bleeding occurs.  Idarucizumab reverses it."
    spans = split_sentences(text)
    assert sentences_in_context(text, spans, "Antidotes") == [
        "Dabigatran inhibits thrombin. [Antidotes.]",
        "Bleeding occurs. [Antidotes. Dabigatran inhibits thrombin.]",
        "Idarucizumab reverses it. [Antidotes. Bleeding occurs.]",
    ]


def test_without_a_title_the_first_sentence_takes_its_place():
    text = "Dabigatran inhibits thrombin. Bleeding occurs. Idarucizumab reverses it."
    assert sentences_in_context(text, split_sentences(text)) == [
        "Dabigatran inhibits thrombin.",
        "Bleeding occurs. [Dabigatran inhibits thrombin.]",
        "Idarucizumab reverses it. [Dabigatran inhibits thrombin. Bleeding occurs.]",
    ]
    assert sentences_in_context("", []) == []
