"""Judgements: which passage answers which query, and how well."""

from __future__ import annotations

import re

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.readers.detect import need_readable
from biorerank_plugins.readers.lines import chomp, parse_lines
from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.readers.source import PathOrStream, source_of

_GRADE = re.compile(r"[+-]?[0-9]{1,9}")
_HEADER = {"query-id", "query_id", "queryid", "qid", "query", "topic"}


def read_qrels(path: PathOrStream) -> dict[str, dict[str, int]]:
    """Read judgements: TREC's four columns (query, 0, passage, grade) or three (query, passage, grade).

    Three columns may have BEIR's header. Columns are separated by tabs, or by white space in a line without tabs; the
    file may be gzipped.

    :param path: a file or a binary stream.
    :returns: ``{query id: {passage id: grade}}`` in the order of the file.
    :raises ReaderError: if the file or one of its lines cannot be read, or a pair is judged twice and differently.

    >>> import io
    >>> read_qrels(io.BytesIO(b"q1 0 p1 2"))
    {'q1': {'p1': 2}}
    """
    qrels: dict[str, dict[str, int]] = {}
    source = source_of(path)
    header_allowed = True

    def add(_: int, line: str) -> None:
        nonlocal header_allowed
        cells = [cell.strip() for cell in (chomp(line).split("\t") if "\t" in line else line.split())]
        may_be_header, header_allowed = header_allowed, False
        if may_be_header and cells[0].lower() in _HEADER and not _GRADE.fullmatch(cells[-1]):
            return
        query, passage, grade = _judgement(cells)
        before = qrels.setdefault(query, {}).setdefault(passage, grade)
        if before != grade:
            raise Malformed(f"Query {query!r} and passage {passage!r} are judged twice: {before} and {grade}.")

    with source.open() as file:
        need_readable(file, "qrels")
        for _ in parse_lines(file, Reading(), add):
            pass
    if not qrels:
        raise ReaderError("The file holds no judgements.", source.name)
    return qrels


def _judgement(cells: list[str]) -> tuple[str, str, int]:
    if len(cells) not in (3, 4):
        raise Malformed(f"Expected 3 columns (query, passage, grade) or TREC's 4, got {len(cells)}.")
    query, passage, grade = cells[0], cells[-2], cells[-1]
    if not query or not passage:
        raise Malformed("The query or passage id is empty.")
    if not _GRADE.fullmatch(grade):
        raise Malformed(f"The grade must be a whole number, got {grade[:40]!r}.")
    return query, passage, int(grade)
