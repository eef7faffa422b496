"""Sentences that refer to what was said before, and only those, come with the sentence before them."""

from __future__ import annotations

import pytest

from biorerank_plugins.text.sentences import in_context, split_sentences

FIRST = "Dabigatran inhibits thrombin."


@pytest.mark.parametrize(
    "sentence",
    [
        "Idarucizumab reverses it within minutes.",
        "It is given orally.",
        "They bleed.",
        "This was seen in mice.",
        "Both drugs bleed.",
        "Food lowers its uptake.",
    ],
)
def test_a_pronoun_needs_the_sentence_before(sentence: str):
    text = f"{FIRST}  {sentence}"
    assert in_context(text, split_sentences(text)) == {1: f"{FIRST} {sentence}"}


@pytest.mark.parametrize(
    "sentence", ["Idarucizumab reverses dabigatran.", "Italy reported bites.", "IT staff slept.", "Theirs bled."]
)
def test_others_stand_alone(sentence: str):
    text = f"{FIRST} {sentence}"
    assert in_context(text, split_sentences(text)) == {}


def test_the_title_stands_before_the_first_sentence():
    text = "It inhibits thrombin. They bleed."
    spans = split_sentences(text)
    assert in_context(text, spans, " Dabigatran ") == {
        0: "Dabigatran. It inhibits thrombin.",
        1: "It inhibits thrombin. They bleed.",
    }
    assert in_context(text, spans) == {1: "It inhibits thrombin. They bleed."}
    assert in_context("", []) == {}
