"""What the model reads of a sentence: names for pronouns, both forms of an abbreviation, and nothing else changed."""

from __future__ import annotations

import pytest

from biorerank_plugins.reranking.readings import readings
from biorerank_plugins.text.sentences import split_sentences

FIRST = "Dabigatran inhibits thrombin."
ASKED = "What reverses dabigatran?"


def _read(question: str, text: str, title: str | None = None) -> list[tuple[str, ...]]:
    return readings(question, text, split_sentences(text), title)


@pytest.mark.parametrize(
    ("sentence", "read"),
    [
        ("Idarucizumab reverses it within minutes.", "Idarucizumab reverses Dabigatran within minutes."),
        ("It is given orally.", "Dabigatran is given orally."),
        ("Food lowers its uptake.", "Food lowers Dabigatran's uptake."),
        ("Its uptake falls with them.", "Dabigatran's uptake falls with Dabigatran."),
        ("It is known to bleed.", "Dabigatran is known to bleed."),
    ],
)
def test_a_pronoun_is_what_the_question_asks_about(sentence: str, read: str):
    assert _read(ASKED, f"{FIRST}  {sentence}") == [(FIRST,), (read,)]


@pytest.mark.parametrize(
    "sentence",
    [
        "Idarucizumab reverses dabigatran.",
        "Italy reported bites.",
        "The IT staff slept.",
        "Theirs bled.",
        "It is known that patients bleed.",
        "it has been asked whether patients bleed.",
    ],
)
def test_others_are_read_as_they_stand(sentence: str):
    assert _read(ASKED, f"{FIRST} {sentence}")[-1] == (sentence,)


def test_without_a_name_a_pronoun_stays():
    text = "Warfarin inhibits thrombin. It is old."
    assert _read(ASKED, text) == [("Warfarin inhibits thrombin.",), ("It is old.",)]
    assert _read("Why?", text)[1] == ("It is old.",)
    assert readings(ASKED, "", []) == []


def test_a_name_stands_in_the_sentence_before_or_in_the_title():
    assert _read(ASKED, "Dabigatran is old. Time passed. It is cheap.")[-1] == ("It is cheap.",)
    chain = "Dabigatran is old. Idarucizumab reverses it. Its cost is high."
    assert _read(ASKED, chain)[-1] == ("Its cost is high.",)
    assert _read(ASKED, "It inhibits thrombin.", "Dabigatran in practice") == [("Dabigatran inhibits thrombin.",)]


def test_what_is_asked_to_be_done_is_no_name():
    text = "Aspirin inhibits platelets. It is cheap."
    assert _read("What inhibits thrombin?", text)[-1] == ("It is cheap.",)
    assert _read("What inhibits platelets?", text)[-1] == ("platelets is cheap.",)


def test_the_longest_name_is_taken_as_it_is_written():
    text = "A disease: sickle-cell disease hurts. Its cause is one letter."
    assert _read("What causes sickle cell disease?", text)[-1] == ("sickle-cell disease's cause is one letter.",)


def test_an_abbreviation_is_read_in_both_forms():
    text = "Neuromyelitis optica (NMO) blinds. NMO is treated. NMOSD is not."
    short = "NMO is treated."
    assert _read("How is neuromyelitis optica treated?", text) == [
        ("Neuromyelitis optica (NMO) blinds.",),
        (short, "Neuromyelitis optica is treated."),
        ("NMOSD is not.",),
    ]
    assert _read("How is NMO treated?", text)[1] == (short,)
    assert _read("How is asthma treated?", text)[1] == (short,)
    long_form = "Neuromyelitis optica (NMO) blinds. In neuromyelitis optica, rituximab helps."
    assert _read("What helps in NMO?", long_form)[1] == (
        "In neuromyelitis optica, rituximab helps.",
        "In NMO, rituximab helps.",
    )


def test_signs_of_patterns_are_signs():
    text = r"Odd\1 receptor (OR1) binds. OR1 binds it."
    assert _read(r"What binds odd\1 receptor?", text)[1][0].startswith("OR1 binds ")
