"""Sentences as spans: what is found, and offsets that stay right on any text."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biorerank_plugins.text.sentences import split_sentences


def sentences(text: str, **options: int) -> list[str]:
    return [text[start:end] for start, end in split_sentences(text, **options)]


@pytest.mark.parametrize(
    "expected",
    [
        ["Aspirin inhibits COX-1.", "It acts within minutes."],
        ["Levels of IL-6 rose (p < 0.05).", "They fell later."],
        ["Smith et al. found 3.5 mg/kg effective.", "Others did not."],
        ["Is TP53 a tumour suppressor?", "Yes!"],
        ["BACKGROUND: E. coli is common.", "METHODS: We looked (Fig. 2) twice."],
    ],
)
def test_sentences_of_biomedical_text(expected: list[str]):
    assert sentences(" ".join(expected)) == expected


@pytest.mark.parametrize("text", ["", " ", "\n\t \u2003"])
def test_white_space_has_no_sentences(text: str):
    assert split_sentences(text) == []


def test_a_text_without_an_end_is_cut_at_white_space():
    text = "word " * 1000
    parts = sentences(text, max_length=100)
    assert " ".join(parts) == text.strip()
    assert all(len(part) <= 100 for part in parts)


def test_a_word_longer_than_a_sentence_is_cut_anyway():
    assert sentences("A" * 250, max_length=100) == ["A" * 100, "A" * 100, "A" * 50]


@given(st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=400), st.integers(1, 60))
def test_spans_are_ordered_apart_stripped_and_cover_all_but_white_space(text: str, longest: int):
    spans = split_sentences(text, max_length=longest)
    assert all(start < end <= start + longest for start, end in spans)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
    assert all(text[start:end] == text[start:end].strip() for start, end in spans)
    covered = {position for start, end in spans for position in range(start, end)}
    assert all(character.isspace() for position, character in enumerate(text) if position not in covered)


@pytest.mark.parametrize(
    "text", ["مرحبا بالعالم. هذا نص.", "😀 works. 😀😀 too.", "re\u0301sume\u0301 rose. It fell.", "a\x00b. C\x1bd."]
)
def test_offsets_count_code_points(text: str):
    parts = sentences(text)
    assert "".join(parts).replace(" ", "") == text.replace(" ", "")


def test_a_million_characters_take_seconds():
    text = "Aspirin inhibits platelets (p < 0.05). " * 26_000
    assert len(split_sentences(text)) == 26_000
