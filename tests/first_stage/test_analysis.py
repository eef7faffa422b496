"""Which terms BM25 sees, for the words that biomedical texts are full of."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biorerank_plugins.first_stage.analysis import terms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("IL-6", ["il", "6"]),
        ("p53 and TP53", ["p53", "tp53"]),
        ("COVID-19", ["covid", "19"]),
        ("SARS-CoV-2", ["sar", "cov", "2"]),
        ("hepatitis B", ["hepat", "b"]),
        ("β-catenin", ["beta", "catenin"]),
        ("TNFα", ["tnf", "alpha"]),
        ("5 µg", ["5", "mu", "g"]),  # the micro sign is not the letter mu
        ("Ca²⁺ and CO₂", ["ca2", "co2"]),
        ("Sjögren’s", ["sjogren", "s"]),
        ("naïve Naive NAÏVE", ["naiv"] * 3),
        ("ﬁbrosis", ["fibrosi"]),
        ("trans\u00adlation", ["translat"]),
        ("(BRCA1/2)", ["brca1", "2"]),
        ("snake_case", ["snake", "case"]),
        ("the effect of the drugs", ["effect", "drug"]),
        ("αβγ κύτταρα", ["αβγ", "κυτταρα"]),  # Greek words stay words
        ("コロナ 新冠病毒", ["コロナ", "新冠病毒"]),
        ("lone \ud800 surrogate", ["lone", "surrog"]),
        (" .,;:!? \x00 – ", []),
        ("", []),
    ],
)
def test_a_text_has_these_terms(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


@pytest.mark.parametrize(
    "spellings",
    [
        ["TNF-α", "TNFα", "TNF-alpha", "tnf alpha"],
        ["IL-6", "IL 6", "il-6", "IL‑6", "IL–6"],  # hyphen, non-breaking hyphen, dash
        ["Guillain-Barré", "guillain barre"],
        ["μ-opioid", "µ-opioid", "mu opioid"],
        ["CD4⁺", "CD4+"],
    ],
)
def test_spellings_of_the_same_name_are_the_same_terms(spellings: list[str]) -> None:
    assert len({tuple(terms(spelling)) for spelling in spellings}) == 1


@settings(max_examples=100)
@given(st.text())
def test_any_text_has_terms_that_can_be_stored(text: str) -> None:
    for term in terms(text):
        assert term.encode() and "\n" not in term
