"""What every line format shares: opening, gzip, bounds, malformed lines."""

from __future__ import annotations

import gzip
import io
import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.passages import Passage
from biorerank_plugins.readers import ReadReport, read_passages
from biorerank_plugins.readers.detect import UnknownFormatError

GOOD = b'{"id": "1", "text": "Statins cause muscle pain."}\n'
MIB = 1 << 20


def read(data: bytes, **options: object) -> list[Passage]:
    return list(read_passages(io.BytesIO(data), **options))  # type: ignore[arg-type]


def ids(path: str | Path, **options: object) -> list[str]:
    return [passage.id for passage in read_passages(path, **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"\xff\xfe{}", "not valid utf-8"),
        (b'{"id": "2", "text": "a\0b"}', "nul byte"),
        (b'{"id": "2", "text": "a\\u0000b"}', "nul character"),
        (b'{"id": "2", "text": "a\\ud800b"}', "surrogate"),
        (b'{"id": "2", "text": "a", "more": ["\\udfff"]}', "surrogate"),
        (b'{"id": "2", "text": "a"', "not valid json"),
        (b'["2", "a"]', "expected a json object, got a list"),
        (b'"text"', "got a string"),
        (b"12", "got a number"),
        (b"null", "got null"),
        (
            b'{"text": "a"}',
            "no '_id' (nor id, docid, doc_id, document_id, passage_id, chunk_id, node_id, id_, pid, pmid); "
            "the keys are: text",
        ),
        (b'{"id": "", "text": "a"}', "id is empty"),
        (b'{"id": null, "text": "a"}', "no id"),
        (b'{"id": true, "text": "a"}', "id must be a string, got a boolean"),
        (
            b'{"id": "2", "words": "a"}',
            "no 'text' (nor content, contents, page_content, passage, passage_text, chunk_text, abstract, body); "
            "the keys are: id, words",
        ),
        (b'{"id": "2", "text": " \\t"}', "text is empty"),
        (b'{"id": "2", "text": 5}', "text must be a string, got a number"),
        (b'{"id": "2", "text": null}', "no text"),
        (b'{"id": "2", "text": "a", "title": 5}', "title must be a string"),
        (b'{"id": "2", "text": "a", "metadata": [1]}', "'metadata' must be an object"),
        (b'{"id": "2", "text": "a", "score": NaN}', "nan is no json value"),
        (b'{"id": "2", "text": "a", "score": -Infinity}', "-infinity is no json value"),
        (b'{"id": "2", "text": "a", "score": 1e999}', "too large"),
        (b'{"id": ' + b"9" * 5000 + b', "text": "a"}', "not usable as json"),
        (b'{"id": "2", "text": "a", "deep": ' + b"[" * 100 + b"]" * 100 + b"}", "nested more than 64 levels"),
        (b'{"id": "2", "text": "a", "deep": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nested too deeply"),
        (b'{"id": "2", "text": "' + b"a" * (16 * MIB) + b'"}', "longer than 16 mib"),
    ],
    ids=lambda value: value[:40].decode("ascii", "replace") if isinstance(value, bytes) else None,
)
def test_a_malformed_line_is_named_or_skipped(tmp_path: Path, bad: bytes, reason: str) -> None:
    """The error names file and line; ``skip`` lists it and goes on with the next line."""
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(GOOD + b"\n" + bad + b"\n" + GOOD.replace(b'"1"', b'"3"'))
    with pytest.raises(ReaderError) as caught:
        ids(path)
    assert (caught.value.path, caught.value.line) == (str(path), 3)
    assert str(caught.value).startswith(f"{path}:3: ")
    assert reason in str(caught.value).lower()

    report = ReadReport()
    assert ids(path, bad_lines="skip", report=report) == ["1", "3"]
    assert (report.read, report.n_skipped) == (2, 1)
    [skipped] = report.skipped
    assert (skipped.path, skipped.line) == (str(path), 3)
    assert reason in skipped.reason.lower()


def test_every_skipped_line_is_counted_and_a_thousand_are_listed() -> None:
    report = ReadReport()
    assert len(read(GOOD + b"{\n" * 1200, bad_lines="skip", report=report)) == 1
    assert report.n_skipped == 1200
    assert [skipped.line for skipped in report.skipped] == list(range(2, 1002))


def test_byte_order_mark_windows_line_ends_and_blank_lines() -> None:
    data = b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n") + b"\r\n  \r\n" + b'{"id": 7, "text": "b"}'
    assert [(p.id, p.text) for p in read(data)] == [("1", "Statins cause muscle pain."), ("7", "b")]


def test_gzip_is_recognised_by_content_not_by_name(tmp_path: Path) -> None:
    zipped, plain = tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"
    zipped.write_bytes(gzip.compress(GOOD) + gzip.compress(GOOD.replace(b'"1"', b'"2"')))
    plain.write_bytes(GOOD)
    assert ids(zipped) == ["1", "2"]
    assert ids(plain) == ["1"]
    assert [p.id for p in read(gzip.compress(GOOD))] == ["1"]


@pytest.mark.parametrize("bad_lines", ["error", "skip"])
@pytest.mark.parametrize("cut", [30, -4])
def test_a_truncated_gzip_is_an_error_also_when_skipping(tmp_path: Path, bad_lines: str, cut: int) -> None:
    path = tmp_path / "corpus.jsonl.gz"
    path.write_bytes(gzip.compress(GOOD * 100)[:cut])
    with pytest.raises(ReaderError, match="damaged or cut short"):
        ids(path, bad_lines=bad_lines)


def test_a_damaged_gzip_is_an_error() -> None:
    data = bytearray(gzip.compress(os.urandom(5000)))
    data[2000] ^= 0xFF
    with pytest.raises(ReaderError, match="gzip data are damaged"):
        read(bytes(data), format="jsonl", bad_lines="skip")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jsonl", b"", "file is empty"),
        ("empty.jsonl.gz", gzip.compress(b"", mtime=0), "file is empty"),
        ("blank.tsv", b"\n\r\n \n", "file is empty"),
        ("blanks.jsonl", b"\n" * 100_000, "holds no passages"),
        ("image.txt", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a PNG image"),
        ("paper.txt", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", "The PDF is damaged"),
        ("table.tsv", b"PK\x03\x04....", "ZIP archive is damaged"),
        ("twice.jsonl.gz", gzip.compress(gzip.compress(GOOD, mtime=0), mtime=0), "compressed twice"),
        ("table.tsv", "id\ttext\n".encode("utf-16"), "holds no passages"),
    ],
)
def test_a_file_with_nothing_to_read(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ReaderError, match=message) as caught:
        ids(path)
    assert caught.value.path == str(path)
    report = ReadReport()
    assert ids(path, bad_lines="skip", report=report) == []
    assert [(s.path, s.line) for s in report.skipped] == [(str(path), None)]


def test_missing_files_and_folders_are_told_at_once(tmp_path: Path) -> None:
    for path in (tmp_path / "no.jsonl", str(tmp_path / "no.jsonl"), "", "a\0b", tmp_path):
        with pytest.raises(ReaderError):
            read_passages(path)


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="format must be"):
        read_passages(tmp_path, format="json")
    with pytest.raises(ValueError, match="bad_lines must be"):
        read_passages(tmp_path, bad_lines="ignore")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"pass stream\.buffer"):
        read_passages(io.StringIO("{}"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="got int"):
        read_passages(5)  # type: ignore[arg-type]


def test_an_unknown_format_is_asked_for() -> None:
    with pytest.raises(UnknownFormatError, match="Say which: jsonl, bioasq, tsv, csv, xlsx, parquet, medline"):
        read(b"Gout is caused by urate crystals.\n")
    assert issubclass(UnknownFormatError, ReaderError)
    [passage] = read(b"Gout is caused by urate crystals.\n", format="text")
    assert passage.text == "Gout is caused by urate crystals."


def test_a_stream_is_recognised_by_content_and_stays_open() -> None:
    for data, format_ids in ((GOOD, ["1"]), (b"a\tb\n", ["a"]), (gzip.compress(b"a\tb\n"), ["a"])):
        stream = io.BytesIO(data)
        assert [passage.id for passage in read_passages(stream)] == format_ids
        assert not stream.closed


def test_a_pipe_that_gives_little_at_a_time() -> None:
    receive, send = os.pipe()
    record = json.dumps({"id": "1", "text": "x" * 30_000}).encode()
    with os.fdopen(receive, "rb", buffering=0) as stream:
        with os.fdopen(send, "wb", buffering=0) as sender:
            for start in range(0, len(record), 1000):
                sender.write(record[start : start + 1000])
        assert [len(passage.text) for passage in read_passages(stream)] == [30_000]


def test_reading_is_lazy_and_counts_as_it_goes() -> None:
    report = ReadReport()
    passages = read_passages(io.BytesIO(GOOD * 3), report=report)
    assert report.read == 0
    next(passages)
    assert report.read == 1


def test_a_reading_that_is_given_up_closes_its_file_and_leaves_the_callers_open(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl.gz"
    path.write_bytes(gzip.compress(GOOD * 3))
    with path.open("rb") as stream:
        for source in (path, stream):
            passages = read_passages(source)
            next(passages)
            del passages  # an open file would be a ResourceWarning, and so an error
        assert not stream.closed


def test_a_large_file_needs_little_memory(tmp_path: Path) -> None:
    """50 MB of lines and a line of 120 MB are read without holding either."""
    path = tmp_path / "corpus.jsonl.gz"
    record = json.dumps({"id": "x", "text": "y" * 10_000}).encode() + b"\n"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(50):
            file.write(record * 100)
        for _ in range(120):
            file.write(b"z" * MIB)
        file.write(b"\n" + GOOD)
    report = ReadReport()
    passages: Iterator[Passage] = read_passages(path, bad_lines="skip", report=report)
    tracemalloc.start()
    try:
        next(passages)
        for _ in range(4998):
            next(passages)
        assert tracemalloc.get_traced_memory()[1] < 2 * MIB
        assert [passage.id for passage in passages] == ["x", "1"]
        assert tracemalloc.get_traced_memory()[1] < 60 * MIB
    finally:
        tracemalloc.stop()
    assert (report.read, report.n_skipped, report.skipped[0].line) == (5001, 1, 5001)
