"""Queries, judgements, and folders in BEIR's layout."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pytest

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.readers import BeirFolder, Query, find_beir, read_passages, read_qrels, read_queries


def queries(text: str | bytes) -> list[Query]:
    return read_queries(io.BytesIO(text.encode() if isinstance(text, str) else text))


def qrels(text: str) -> dict[str, dict[str, int]]:
    return read_qrels(io.BytesIO(text.encode()))


EXPECTED = [Query("1", "What causes gout?"), Query("b", "Is TGF-β raised?")]


@pytest.mark.parametrize(
    "content",
    [
        '{"_id": 1, "text": "What causes gout?", "metadata": {}}\n{"_id": "b", "text": "Is TGF-β raised?"}',
        '{"id": 1, "question": "What causes gout?", "snippets": []}\n{"id": "b", "question": "Is TGF-β raised?"}',
        '{"id": 1, "body": "What causes gout?"}\n\n{"id": "b", "body": " Is TGF-β raised? "}',
        json.dumps({"questions": [{"id": 1, "body": "What causes gout?"}, {"id": "b", "body": "Is TGF-β raised?"}]}),
        "1\tWhat causes gout?\nb\tIs TGF-β raised?\n",
        "query-id\tquery\n1\tWhat causes gout?\r\nb\tIs TGF-β raised?\r\n",
        "text\tkind\tid\nWhat causes gout?\tx\t1\nIs TGF-β raised?\ty\tb\n",
        gzip.compress(b'{"_id": "1", "text": "What causes gout?"}\n{"_id": "b", "text": "Is TGF-\xce\xb2 raised?"}'),
    ],
    ids=["beir", "bioasq lines", "body", "bioasq document", "tsv", "header", "columns", "gzip"],
)
def test_every_form_of_queries(content: str | bytes) -> None:
    assert queries(content) == EXPECTED


def test_plain_lines_are_named_by_their_number(tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text("What causes gout?\n\n  Is it painful?\n")
    assert read_queries(path) == [Query("1", "What causes gout?"), Query("3", "Is it painful?")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "file is empty"),
        ("\n" * 70_000 + "\t\n", "holds no queries|Cannot tell"),
        ('{"questions": []}', "holds no queries"),
        ('{"id": "1", "title": "x"}', ":1: No 'question' \\(nor body, .*; the keys are: id, title"),
        ('{"id": 1, "text": "a"}\n{"id": 1, "text": "b"}', ":2: The query id '1' stands on line 1 already"),
        ("1\ta\n2\n", ":2: Expected 2 columns \\(id, text\\), got 1"),
        ("1\ta\n2\t\n", ":2: The text is empty"),
        ("<a/>", "XML holds no queries"),
        ("What?\n", "Cannot tell the format"),
        ("%PDF-1.4", "a PDF file"),
    ],
)
def test_bad_queries(content: str, message: str) -> None:
    with pytest.raises(ReaderError, match=message):
        queries(content)


def test_a_query_that_stands_there_twice_is_read_once() -> None:
    assert queries("1\ta\n1\ta\n") == [Query("1", "a")]


@pytest.mark.parametrize(
    "content",
    [
        "q1 0 d1 2\nq1 0 d2 0\nq2 0 d1 -1\n",
        "q1\t0\td1\t2\r\nq1\t0\td2\t0\r\n\r\nq2\t0\td1\t-1\r\n",
        "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td1\t-1",
        "q1\td1\t2\nq1\td2\t0\nq2\td1\t-1\nq2\td1\t-1\n",
    ],
    ids=["trec", "trec tabs", "beir", "three columns, one twice"],
)
def test_every_form_of_judgements(content: str) -> None:
    assert qrels(content) == {"q1": {"d1": 2, "d2": 0}, "q2": {"d1": -1}}


def test_ids_with_spaces_between_tabs() -> None:
    assert qrels("q 1\tdoc 1.txt\t1\n") == {"q 1": {"doc 1.txt": 1}}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("q1 d1", "Expected 3 columns .* got 2"),
        ("q1 0 d1 1 runname", "got 5"),
        ("q1\td1\t1.5", "whole number, got '1.5'"),
        ("q1\td1\thigh", "whole number, got 'high'"),
        ("query-id\tcorpus-id\tscore", "whole number, got 'score'"),
        ("q1\t\t1", "id is empty"),
        ("q0\td0\t2", "judged twice: 1 and 2"),
    ],
)
def test_bad_judgements_are_named(row: str, message: str) -> None:
    with pytest.raises(ReaderError, match=message) as caught:
        qrels(f"q0\td0\t1\n{row}\n")
    assert caught.value.line == 2


def test_empty_judgements() -> None:
    for content in ("", "query-id\tcorpus-id\tscore\n"):
        with pytest.raises(ReaderError, match=r"empty|no judgements"):
            qrels(content)


def test_find_beir(tmp_path: Path) -> None:
    with pytest.raises(ReaderError, match="no such folder"):
        find_beir(tmp_path / "no")
    with pytest.raises(ReaderError, match=r"no corpus\.jsonl"):
        find_beir(tmp_path)
    (tmp_path / "corpus.jsonl.gz").write_bytes(b"")
    with pytest.raises(ReaderError, match=r"no queries\.jsonl"):
        find_beir(tmp_path)
    (tmp_path / "queries.jsonl").write_bytes(b"")
    with pytest.raises(ReaderError, match=r"no qrels"):
        find_beir(tmp_path)
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "dev.tsv").write_bytes(b"")
    found = BeirFolder(tmp_path / "corpus.jsonl.gz", tmp_path / "queries.jsonl", tmp_path / "qrels" / "dev.tsv")
    assert find_beir(str(tmp_path)) == found
    (tmp_path / "qrels" / "train.tsv").write_bytes(b"")
    with pytest.raises(ReaderError, match=r"several judgement files \(qrels/dev.tsv, qrels/train.tsv\)"):
        find_beir(tmp_path)
    assert find_beir(tmp_path, split="train").qrels.name == "train.tsv"
    (tmp_path / "qrels" / "test.tsv").write_bytes(b"")
    assert find_beir(tmp_path).qrels.name == "test.tsv"


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "n_passages", "n_queries", "n_judgements"),
    [("covidqa_lit", 151, 27, 152), ("liveqa_medquad", 446, 86, 513), ("pubmedqa", 3347, 500, 1655)],
)
def test_real_collections(data_dir: Path, folder: str, n_passages: int, n_queries: int, n_judgements: int) -> None:
    """The numbers are those that the collections' own documentation gives."""
    found = find_beir(data_dir / folder)
    passages = {passage.id for passage in read_passages(data_dir / folder)}
    questions = {query.id for query in read_queries(found.queries)}
    judged = read_qrels(found.qrels)
    assert (len(passages), len(questions)) == (n_passages, n_queries)
    assert sum(map(len, judged.values())) == n_judgements
    assert judged.keys() <= questions
    assert {passage for judgements in judged.values() for passage in judgements} <= passages


@pytest.mark.data
def test_real_bioasq(data_dir: Path) -> None:
    """The snippets of the questions have the ids of the collection's passages."""
    passages = {passage.id for passage in read_passages(data_dir / "bioasq" / "corpus.jsonl.gz")}
    assert len(passages) == 55_258
    path = data_dir / "bioasq" / "dev.jsonl.gz"
    judged = read_qrels(data_dir / "bioasq" / "qrels.dev.tsv")
    assert {query.id for query in read_queries(path)} == judged.keys()
    snippets = {passage.id for passage in read_passages(path)}
    assert snippets == {passage for judgements in judged.values() for passage in judgements}
    assert snippets <= passages
