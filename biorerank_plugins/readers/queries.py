"""Questions to search for: BEIR and BioASQ JSON, tab-separated values, or plain lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.readers import bioasq, tsv
from biorerank_plugins.readers.detect import check_readable, detect
from biorerank_plugins.readers.jsonl import pop_id
from biorerank_plugins.readers.lines import parse_lines
from biorerank_plugins.readers.records import as_id, as_text, listed, parse_object
from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.readers.source import OpenFile, PathOrStream, source_of

__all__ = ["Query", "read_queries"]

# Where the question stands, the first that is there: a BEIR query has only "text", a BioASQ question never has.
_TEXT_KEYS = ("question", "body", "text")
_ID_NAMES = {"id", "_id", "qid", "query-id", "query_id"}
_TEXT_NAMES = {"text", "query", "question", "body"}


@dataclass(frozen=True, slots=True)
class Query:
    """A question.

    :param id: its name in the judgements.
    :param text: the question.
    """

    id: str
    text: str


def read_queries(path: PathOrStream) -> list[Query]:
    """Read all questions of a file.

    JSON Lines (``_id`` or ``id``, and ``question``, ``body`` or ``text``), BioASQ Task B JSON, ``.tsv`` (id, text), or
    ``.txt`` (one question a line, its id the line number); gzipped or not.

    :param path: a file or a binary stream.
    :returns: the questions in the order of the file.
    :raises ReaderError: if the file or one of its lines cannot be read, or an id stands there with two texts.

    >>> import io
    >>> read_queries(io.BytesIO(b'{"_id": 1, "text": "What causes gout?"}'))
    [Query(id='1', text='What causes gout?')]
    """
    source = source_of(path)
    with source.open() as file:
        queries = list(_read(file))
    if not queries:
        raise ReaderError("The file holds no queries.", source.name)
    return queries


def _read(file: OpenFile) -> Iterator[Query]:
    seen: dict[str, tuple[int, str]] = {}
    for number, query in _numbered(file):
        first = seen.setdefault(query.id, (number, query.text))
        if first[1] != query.text:
            problem = f"The query id {query.id!r} stands on line {first[0]} already, with another text."
            raise ReaderError(problem, file.name, number)
        if first[0] == number:
            yield query


def _numbered(file: OpenFile) -> Iterator[tuple[int, Query]]:
    try:
        check_readable(file.head, "queries")
    except Malformed as problem:
        raise ReaderError(str(problem), file.name) from None
    reader = _READERS.get(detect(file))
    if reader is None:
        raise ReaderError(
            "The file is a PDF file. Expected queries: JSONL, TSV, BioASQ, or text with one a line.", file.name
        )
    return reader(file)


def _from_lines(file: OpenFile) -> Iterator[tuple[int, Query]]:
    return parse_lines(file, Reading(), lambda number, line: (number, Query(str(number), as_text(line.strip()))))


def _from_jsonl(file: OpenFile) -> Iterator[tuple[int, Query]]:
    return parse_lines(file, Reading(), lambda number, line: (number, _query(parse_object(line))))


def _from_bioasq(file: OpenFile) -> Iterator[tuple[int, Query]]:
    return bioasq.parse_questions(file, Reading(), lambda number, question: (number, _query(question)))


def _query(record: dict[str, Any]) -> Query:
    key = next((key for key in _TEXT_KEYS if record.get(key) is not None), None)
    if key is None:
        raise Malformed(f"No 'question', 'body' or 'text'; the keys are: {listed(record)}.")
    return Query(pop_id(record), as_text(record[key], key).strip())


def _from_tsv(file: OpenFile) -> Iterator[tuple[int, Query]]:
    columns: tuple[int, int] | None = None
    width = 2  # id and text, unless a header says otherwise
    for number, cells in tsv.rows(file, Reading()):
        if columns is None:
            header = _header(cells)
            columns = header or (0, 1)
            if header is not None:
                width = len(cells)
                continue
        if len(cells) != width:
            raise ReaderError(f"Expected {width} tab-separated columns, got {len(cells)}.", file.name, number)
        try:
            query = Query(as_id(cells[columns[0]]), as_text(cells[columns[1]]).strip())
        except Malformed as problem:
            raise ReaderError(str(problem), file.name, number) from None
        yield number, query


def _header(first: list[str]) -> tuple[int, int] | None:
    """Return where id and text stand if the first row is a header."""
    names = [cell.strip().lower() for cell in first]
    ids = [place for place, name in enumerate(names) if name in _ID_NAMES]
    texts = [place for place, name in enumerate(names) if name in _TEXT_NAMES]
    return (ids[0], texts[0]) if ids and texts else None


def _no_pubmed(file: OpenFile) -> Iterator[tuple[int, Query]]:
    raise ReaderError("XML holds no queries. Expected JSON Lines, BioASQ JSON, .tsv or .txt.", file.name)


_READERS: dict[str, Callable[[OpenFile], Iterator[tuple[int, Query]]]] = {
    "jsonl": _from_jsonl,
    "bioasq": _from_bioasq,
    "tsv": _from_tsv,
    "text": _from_lines,
    "pubmed": _no_pubmed,
}
