"""Long documents become passages of a useful size, none of their words is lost."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biorerank_plugins.text.cutting import cut_document


def parts(text: str, size: int = 60) -> list[tuple[str | None, str]]:
    return [(part.heading, text[part.start : part.end]) for part in cut_document(text, size)]


def test_short_paragraphs_go_together_and_long_ones_are_cut_at_sentences():
    short = "One is here.\n\nTwo is here."
    assert parts(short) == [(None, short)]
    long = "The first sentence is of some length. The second one is too. And a third one ends it."
    assert parts(long) == [
        (None, "The first sentence is of some length. The second one is too."),
        (None, "And a third one ends it."),
    ]
    assert parts(f"{short}\n \n{long}")[0] == (None, short)


def test_a_heading_begins_a_part_and_is_told():
    text = "Before.\n# Sodium #\nAt most 8 mmol/l a day.\n\n## Fast\n\nBy mouth.\n#hashtag stays"
    assert parts(text) == [
        (None, "Before."),
        ("Sodium", "At most 8 mmol/l a day."),
        ("Fast", "By mouth.\n#hashtag stays"),
    ]


@pytest.mark.parametrize("text", ["", " \n\n ", "# Only a heading"])
def test_nothing_to_read(text: str):
    assert parts(text) == []


@given(st.text(alphabet="ab. \n#", max_size=300), st.integers(5, 40))
def test_no_word_is_lost_and_parts_follow_one_another(text: str, size: int):
    found = cut_document(text, size)
    assert all(one.end <= two.start for one, two in pairwise(found))
    assert all(text[one.start : one.end] == text[one.start : one.end].strip() != "" for one in found)
    headings = {line for line in text.split("\n") if re.fullmatch(r"\s*#{1,6} +.*", line)}
    if not headings:
        assert "".join("".join(text[p.start : p.end].split()) for p in found) == "".join(text.split())
