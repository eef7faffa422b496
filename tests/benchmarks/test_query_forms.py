"""Claims and phrases made from judged questions."""

from __future__ import annotations

import pytest

from benchmarks.training.query_forms import claim_from_answer, phrase_from_question


@pytest.mark.parametrize(
    ("answer", "claim"),
    [
        (
            "Yes, aspirin irreversibly inhibits platelet cyclooxygenase. It acts within minutes.",
            "Aspirin irreversibly inhibits platelet cyclooxygenase.",
        ),
        ("No. Vitamin C does not prevent the common cold.", "Vitamin C does not prevent the common cold."),
        ("About 5 % of carriers develop\nit early in life.", "About 5 % of carriers develop it early in life."),
        ("It is a kinase that phosphorylates tau.", None),  # refers back
        ("According to the authors, tau is phosphorylated by kinases.", None),
        ("TP53.", None),  # no claim
        ("word " * 60, None),  # a summary
        ("", None),
        ("Yes.", None),
    ],
)
def test_the_first_sentence_of_an_answer_is_a_claim_if_it_stands_on_its_own(answer: str, claim: str | None):
    assert claim_from_answer(answer) == claim


@pytest.mark.parametrize(
    ("question", "phrase"),
    [
        ("What is the role of Gata3 in Th2 cells?", "Gata3 Th2 cells"),
        ("Is (R)-ketamine an antidepressant?", "R -ketamine antidepressant"),
        ("Which are the α-synuclein aggregation inhibitors?", "α-synuclein aggregation inhibitors"),
        ("What is it?", None),
        (" ".join(f"gene{n}" for n in range(9)), None),  # longer than a phrase
    ],
)
def test_a_phrase_keeps_the_topic_of_a_question(question: str, phrase: str | None):
    assert phrase_from_question(question) == phrase


def test_limits_are_parameters():
    assert claim_from_answer("Tau aggregates.", min_words=2) == "Tau aggregates."
    assert phrase_from_question("Is tau toxic?", min_words=3) is None
