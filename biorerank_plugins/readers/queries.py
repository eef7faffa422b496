"""Questions to search for: of any file that ``question_files.py`` reads, or plain lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.readers.compression import check_encoding
from biorerank_plugins.readers.detect import SUFFIXES, UnknownFormatError, binary_kind, need_readable, suffix_of
from biorerank_plugins.readers.lines import parse_lines
from biorerank_plugins.readers.question_files import question_records
from biorerank_plugins.readers.records import as_text
from biorerank_plugins.readers.report import Reading, ReadReport
from biorerank_plugins.readers.source import OpenFile, PathOrStream, source_of
from biorerank_plugins.readers.topics import is_topics


@dataclass(frozen=True, slots=True)
class Query:
    """A question.

    :param id: its name in the judgements.
    :param text: the question.
    """

    id: str
    text: str


def read_queries(
    path: PathOrStream,
    *,
    bad_lines: Literal["error", "skip"] = "error",
    report: ReadReport | None = None,
    encoding: str | None = None,
) -> list[Query]:
    """Read all questions of a file.

    JSON Lines or a list of objects (``question``, ``query``, ``body`` or ``text``, and ``id``, ``_id``, ``qid`` or
    ``query_id``), Parquet with such columns, BioASQ Task B, PubMedQA, MIRAGE, SQuAD's layout, TREC topics, CSV and TSV
    with a header, TSV without (id, text), or ``.txt`` (one question a line); compressed or not. The id of a question
    that has none is the number of its line.

    :param path: a file or a binary stream.
    :param bad_lines: ``error`` stops at the first malformed line or record, ``skip`` notes it in the report.
    :param report: is filled while the questions are read.
    :param encoding: of a text file that is not UTF-8.
    :returns: the questions in the order of the file.
    :raises ReaderError: if the file or one of its lines cannot be read, or an id stands there with two texts.

    >>> import io
    >>> read_queries(io.BytesIO(b'{"_id": 1, "text": "What causes gout?"}'))
    [Query(id='1', text='What causes gout?')]
    """
    source = source_of(path)
    reading = Reading(ReadReport() if report is None else report, skips=bad_lines == "skip")
    with source.open(check_encoding(encoding)) as file:
        queries = list(_unique(file, reading))
    if not queries:
        raise ReaderError("The file holds no queries.", source.name)
    reading.report.read += len(queries)
    return queries


def _unique(file: OpenFile, reading: Reading) -> Iterator[Query]:
    seen: dict[str, tuple[int, str]] = {}
    for number, query in _numbered(file, reading):
        first = seen.setdefault(query.id, (number, query.text))
        if first[1] != query.text:
            reading.bad(
                f"The query id {query.id!r} stands on line {first[0]} already, with another text.", file.name, number
            )
        elif first[0] == number:
            yield query


def _numbered(file: OpenFile, reading: Reading) -> Iterator[tuple[int, Query]]:
    need_readable(file, "questions")
    suffix = suffix_of(file.name)
    if suffix in SUFFIXES["text"] and not is_topics(file.begin):
        yield from parse_lines(file, reading, lambda number, line: (number, Query(str(number), as_text(line.strip()))))
        return
    is_told = (
        binary_kind(file.head) == "parquet"
        or file.begin.startswith((b"{", b"[", b"<"))
        or suffix in (*SUFFIXES["tsv"], *SUFFIXES["csv"], *SUFFIXES["jsonl"])
    )
    if not is_told and b"\t" not in file.begin.partition(b"\n")[0]:
        said = "Cannot tell the format from the name or content. Expected queries: JSON, TSV, CSV, TREC topics, .txt."
        raise UnknownFormatError(said, file.name)
    for number, record in question_records(file, reading):
        yield number, Query(record["id"] or str(number), record["question"])
