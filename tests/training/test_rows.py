"""Rows on disk and what is refused about them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.training.rows import TrainingPair, normalised, read_rows, shared_questions, write_rows

ROWS = [TrainingPair("Is p53 one?", "Yes: p53 (TP53) is – α.", 1.0, "gold"), TrainingPair("Why?", "No.", 0.25, "")]
GOOD = {"question": "q", "passage": "p", "label": 1}


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_rows_come_back_as_they_were_written(tmp_path: Path, name: str):
    write_rows(ROWS, tmp_path / name)
    first = (tmp_path / name).read_bytes()
    assert first.startswith(b"\x1f\x8b") == name.endswith(".gz")
    assert read_rows(tmp_path / name) == ROWS
    write_rows(ROWS, tmp_path / name)
    assert (tmp_path / name).read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": 2}, "The label must be 0, 1 or a number between, got 2"),
        ({"label": -0.1}, "got -0.1"),
        ({"label": "1"}, 'got "1"'),
        ({"label": True}, "got true"),
        ({"label": None}, "got null"),
        ({"question": "  "}, "The question is empty"),
        ({"passage": ""}, "The passage is empty"),
        ({"passage": ["p"]}, "The passage must be a string, got a list"),
    ],
)
def test_a_bad_value_is_named_with_its_line(tmp_path: Path, change, said):
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n\n{json.dumps({**GOOD, **change})}\n", encoding="utf-8")
    with pytest.raises(ReaderError) as error:
        read_rows(path)
    assert said in str(error.value)
    assert str(error.value).startswith(f"{path}:3: ")


@pytest.mark.parametrize("missing", ["question", "passage", "label"])
def test_a_missing_key_is_named(tmp_path: Path, missing):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({key: value for key, value in GOOD.items() if key != missing}), encoding="utf-8")
    with pytest.raises(ReaderError, match=f"No '{missing}'; the keys are"):
        read_rows(path)


def test_damaged_lines_and_files_are_named(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(GOOD) + '\n{"question": "q", "pass\n', encoding="utf-8")
    with pytest.raises(ReaderError, match=r"rows.jsonl:2: Not valid JSON"):
        read_rows(path)
    path.write_bytes(gzip.compress(json.dumps(GOOD).encode() * 50)[:40])
    with pytest.raises(ReaderError, match="damaged or cut short"):
        read_rows(path)
    with pytest.raises(ReaderError, match="no such file"):
        read_rows(tmp_path / "none.jsonl")


def test_questions_are_the_same_up_to_case_and_punctuation():
    found = shared_questions(["Is p53 one?", "Other", "IS P53, one", "α-TNF"], ["is p53 one", "Α TNF"])
    assert found == ["Is p53 one?", "α-TNF"]


@given(st.text())
def test_normalising_twice_changes_nothing_and_signs_alone_stay_apart(text):
    assert normalised(normalised(text)) == normalised(text)
    assert normalised("??") != normalised("!!")
