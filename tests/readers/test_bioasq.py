"""BioASQ Task B files: their distinct snippets."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tracemalloc
from pathlib import Path

import pytest

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.passages import Passage
from biorerank_plugins.readers import ReadReport, read_passages

URL = "http://www.ncbi.nlm.nih.gov/pubmed/"
QUESTIONS = [
    {
        "id": "q1",
        "body": "Is gout caused by urate?",
        "snippets": [
            {"text": "Urate causes gout.", "document": URL + "1", "beginSection": "abstract", "offsetInEndSection": 9},
            {"text": "TGF-δ is raised.", "document": URL + "2"},
        ],
    },
    {
        "id": "q2",
        "body": "What is raised?",
        "snippets": [
            {"text": "urate causes gout", "document": URL + "3"},
            {"text": "TGF-β is raised.", "document": None},
            {"text": "TGF-β is raised", "document": None},
        ],
    },
]


def read(data: str | bytes, **options: object) -> list[Passage]:
    raw = data.encode() if isinstance(data, str) else data
    return list(read_passages(io.BytesIO(raw), **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "document",
    [
        json.dumps({"questions": QUESTIONS}),
        json.dumps({"version": [1, {"a": 2}], "questions": QUESTIONS, "end": 12}, indent=2),
        json.dumps(QUESTIONS, ensure_ascii=False),
        "\n".join(json.dumps(question) for question in QUESTIONS),
        "\ufeff" + json.dumps({"questions": QUESTIONS}),
    ],
    ids=["one line", "indented", "list", "lines", "byte order mark"],
)
def test_every_form_gives_the_distinct_snippets(document: str) -> None:
    """Equal up to case and punctuation is one passage; another Greek letter is another passage."""
    passages = read(document)
    assert [p.text for p in passages] == ["Urate causes gout.", "TGF-δ is raised.", "TGF-β is raised."]
    assert passages[0].metadata == {"document": URL + "1", "pmid": "1", "section": "abstract"}
    assert passages[0].id == "p" + hashlib.sha1(b"uratecausesgout").hexdigest()[:12]
    assert len({p.id for p in passages}) == 3


def test_a_snippet_of_two_files_is_one_passage(tmp_path: Path) -> None:
    for name in ("train.json", "dev.json"):
        (tmp_path / name).write_text(json.dumps({"questions": QUESTIONS}))
    assert len(list(read_passages(tmp_path))) == 3


def test_malformed_questions_and_snippets_are_named() -> None:
    bad = [
        "no object",
        {"id": "q3", "body": "?", "snippets": "none"},
        {"id": "q4", "body": "?", "snippets": [{"text": ""}, {"text": "Good."}, 7]},
        {"id": "q5", "body": "A question of a test set has no snippets."},
        {"unknown": 1},
    ]
    report = ReadReport()
    document = '{"questions": [\n' + ",\n".join(json.dumps(question) for question in bad) + "]}"
    assert [p.text for p in read(document, bad_lines="skip", report=report)] == ["Good."]
    assert [s.line for s in report.skipped] == [2, 3, 4, 4, 6]
    assert report.skipped[2].reason == "Snippet 1: The text is empty."
    with pytest.raises(ReaderError, match="Expected a JSON object, got a string") as caught:
        read(document)
    assert caught.value.line == 2


@pytest.mark.parametrize("bad_lines", ["error", "skip"])
@pytest.mark.parametrize(
    ("document", "message"),
    [
        ('{"questions": [{"id": 1, "body"', "Not valid JSON"),
        ('{"questions": [{"body": "?"}', "expected ','"),
        ('{"questions": []} {}', "Expected the end"),
        ('{"questions": [' + "[" * 200_000, "nested too deeply"),
        ('{"questions": [NaN]}', "NaN is no JSON value"),
        ('{"questions": 5}', "no list 'questions'"),
        ('{"questions": ["\0"]}', "NUL byte"),
        (b'{"questions": ["\xff"]}', "Not valid UTF-8"),
        ('{"questions": ["' + "a" * (17 << 20), "longer than 16 MiB"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_a_document_that_breaks_off_is_always_an_error(document: str | bytes, message: str, bad_lines: str) -> None:
    with pytest.raises(ReaderError, match=message):
        read(document, format="bioasq", bad_lines=bad_lines)


def test_a_document_without_snippets_holds_no_passages() -> None:
    with pytest.raises(ReaderError, match="holds no passages"):
        read('{"questions": [{"id": "q", "body": "?"}]}')


def test_a_large_document_needs_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "training.json.gz"
    with gzip.open(path, "wt", compresslevel=1) as file:
        file.write('{"questions": [')
        for number in range(2000):
            snippet = {"text": f"{number} " + "y" * 10_000}
            file.write(("," if number else "") + json.dumps({"id": number, "body": "?", "snippets": [snippet]}))
        file.write("]}")
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_passages(path)) == 2000
        assert tracemalloc.get_traced_memory()[1] < 3 << 20
    finally:
        tracemalloc.stop()
