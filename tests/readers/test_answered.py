"""Questions with their evidence, from BioASQ and from question-answer pairs."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pytest

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.readers import ReadReport, read_passages
from biorerank_plugins.readers.answered import read_answered

SNIPPETS = [{"text": "It lowers glucose.", "document": "http://www.ncbi.nlm.nih.gov/pubmed/1"}, {"text": "It acts."}]
QUESTION = {"id": "q1", "body": "What does metformin do?", "snippets": SNIPPETS, "documents": ["doc1"]}


def _lines(*records: object) -> io.BytesIO:
    return io.BytesIO("".join(json.dumps(record) + "\n" for record in records).encode())


@pytest.mark.parametrize("stream", [_lines(QUESTION), io.BytesIO(json.dumps({"questions": [QUESTION]}).encode())])
def test_bioasq_as_downloaded_and_as_lines(stream: io.BytesIO):
    (question,) = read_answered(stream)
    assert (question.id, question.text) == ("q1", "What does metformin do?")
    assert [passage.text for passage in question.passages] == ["It lowers glucose.", "It acts."]
    assert question.passages[0].metadata["pmid"] == "1"
    assert question.documents == {"doc1"}


def test_snippets_have_the_ids_that_they_have_as_passages():
    expected = [passage.id for passage in read_passages(_lines(QUESTION))]
    (question,) = read_answered(_lines(QUESTION))
    assert [passage.id for passage in question.passages] == expected


def test_a_snippet_of_two_questions_is_evidence_of_both():
    other = {**QUESTION, "id": "q2", "body": "What lowers glucose?"}
    assert [len(question.passages) for question in read_answered(_lines(QUESTION, other))] == [2, 2]


def test_question_answer_pairs_may_repeat_their_ids_and_be_long(tmp_path: Path):
    answer = "Signs include fever. " * 400
    records = [
        {"id": "0000001_1-1", "question": "What is it?", "answer": answer, "focus": "x"},
        {"id": "0000001_1-1", "question": "How is it treated?", "answer": "With rest.", "document": "d"},
        {"question": "No id?", "answer": "None."},
    ]
    path = tmp_path / "pairs.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(record) + "\n" for record in records).encode()))
    first, second, third = read_answered(path)
    assert first.passages[0].text == answer.strip()
    assert (second.text, second.passages[0].metadata["document"]) == ("How is it treated?", "d")
    assert (third.id, third.passages[0].text) == ("", "None.")
    assert len({question.passages[0].id for question in (first, second, third)}) == 3


def test_questions_of_a_test_set_have_no_passages():
    (question,) = read_answered(_lines({"id": 7, "body": "Why?"}))
    assert (question.id, question.passages) == ("7", ())


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (
            {"id": "1", "answer": "x"},
            "No 'question' (nor body, query, query_text, anchor, text); the keys are: id, answer.",
        ),
        ({"question": " ", "answer": "x"}, "The question is empty."),
        ({"question": "q", "answer": ""}, "The answer is empty."),
        ({"question": "q", "answer": 3}, "The answer must be a string, got a number."),
        ({"body": "q", "snippets": [{"text": ""}]}, "Snippet 1: The text is empty."),
        ({"body": "q", "documents": "doc", "snippets": []}, "'documents' must be a list of strings."),
    ],
)
def test_a_malformed_record_is_named_or_skipped(record, said):
    with pytest.raises(ReaderError) as error:
        list(read_answered(_lines(QUESTION, record)))
    assert said in str(error.value)
    assert error.value.line == 2
    report = ReadReport()
    assert len(list(read_answered(_lines(record, QUESTION), bad_lines="skip", report=report))) >= 1
    assert report.n_skipped == 1


@pytest.mark.parametrize("content", [b"", b"%PDF-1.7", b'{"question": "q", "ans'])
def test_what_is_no_such_file_is_refused(content):
    with pytest.raises(ReaderError):
        list(read_answered(io.BytesIO(content)))
