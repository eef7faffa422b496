r"""Tab-separated and comma-separated files: one passage a row.

A header names an id and a text, by any name of ``fields.py`` or by those that the caller gives, in any order; further
columns become metadata. A tab-separated file may do without: two or three columns then are id, text, title.

CSV follows the rules of spreadsheets (RFC 4180). In TSV quoting is decided row by row, because both habits are common
and neither is declared: spreadsheets write ``"…"`` around what holds tabs, quotes or line ends, retrieval collections
write quotes as they are. A row that follows the rules of quoting strictly is read that way (a quoted field may run over
several lines); any other row is taken literally, so a stray ``"`` never swallows what follows it.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TypeVar

from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.fields import (
    HOW_TO_NAME,
    ID,
    NAMES,
    TEXT,
    TITLE,
    cells_passage,
    find_field,
    header_of,
    plain_name,
)
from biorerank_plugins.readers.lines import MAX_LINE, chomp, decode_line, raw_lines
from biorerank_plugins.readers.records import listed
from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.readers.source import OpenFile

_T = TypeVar("_T")

Rows = Iterator[tuple[int, list[str]]]
"""``(line number, cells)`` of each row that is not blank."""

# A quoted field with more line ends than this is a stray quote.
_MAX_ROW_LINES = 1_000


def read_csv(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give the passage of each row."""
    rows, passage = csv_rows(file, reading), partial(cells_passage, file, reading)
    return table_rows(
        rows, file, reading, lambda first: (header_of(first, reading.keys), True), passage, needs_header=True
    )


def read_tsv(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give the passage of each row."""
    rows, passage = tsv_rows(file, reading), partial(cells_passage, file, reading)
    return table_rows(rows, file, reading, lambda first: _columns(first, reading.keys), passage, needs_header=False)


def _columns(first: list[str], keys: Mapping[str, str]) -> tuple[list[str], bool]:
    """Return the names of the columns, and whether the first row is a header that has them."""
    is_header = find_field(TEXT, first, {}) is not None and find_field(ID, first, {}) is not None
    usual = {name for names in NAMES.values() for name in names}
    known = sum(plain_name(cell) in usual for cell in first)
    if is_header or keys or known > 1 or known == len(first):
        return header_of(first, keys), True
    if len(first) not in (2, 3):
        raise Malformed(
            f"Expected a header with id and text, or 2 or 3 tab-separated columns (id, text, title), got {len(first)}: "
            f"{listed(first)}. {HOW_TO_NAME}"
        )
    return [ID, TEXT, TITLE][: len(first)], False


def table_rows(
    rows: Rows,
    file: OpenFile,
    reading: Reading,
    columns_of: Callable[[list[str]], tuple[list[str], bool]],
    parse: Callable[[int, list[str], list[str]], _T],
    *,
    needs_header: bool,
) -> Iterator[_T]:
    """Give what ``parse(line number, names of the columns, cells)`` makes of each row.

    :param columns_of: the first row ► names of the columns, and whether it is a header.
    :param needs_header: where the first row is of no use, the rows behind it are of none either.
    """
    columns: list[str] | None = None
    for number, cells in rows:
        with reading.noting(file.name, number):
            if columns is None:
                columns, is_header = columns_of(cells)
                if is_header:
                    continue
            yield parse(number, columns, cells)
        if columns is None and needs_header:
            return


def csv_rows(file: OpenFile, reading: Reading) -> Rows:
    """Give the rows of a file whose header has commas, or more semicolons or tabs than commas.

    A row that breaks the rules of quoting ends the reading: nobody knows where the next one begins.
    """
    _allow_long_fields()
    head = file.head.partition(b"\n")[0]
    delimiter = max(",;\t", key=lambda sign: head.count(sign.encode()))
    lines = (decode_line(raw) for _, raw in raw_lines(file.stream))
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        for cells in rows:
            if any(cell.strip() for cell in cells):
                yield rows.line_num, cells
    except (csv.Error, Malformed) as problem:
        reading.bad(f"{problem}; what follows is not read.", file.name, rows.line_num)


def tsv_rows(file: OpenFile, reading: Reading) -> Rows:
    """Give the rows of a tab-separated file."""
    _allow_long_fields()
    lines = _Lines(raw_lines(file.stream))
    for number, raw in lines:
        with reading.noting(file.name, number):
            if (line := decode_line(raw)).strip():
                yield number, _cells(number, line, lines)


def _allow_long_fields() -> None:
    # The module's limit is one for the whole process: raise it for fields that we allow, never lower it.
    if csv.field_size_limit() < MAX_LINE:
        csv.field_size_limit(MAX_LINE)


class _Lines:
    """Numbered lines that can be put back.

    :ivar alone: no quoted field that begins up to this line runs on behind its line. Quotes that never end would
        otherwise be followed a thousand lines far from each of a thousand lines.
    """

    def __init__(self, lines: Iterator[tuple[int, bytes]]) -> None:
        self.alone = 0
        self._lines = lines
        self._pending: deque[tuple[int, bytes]] = deque()

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        return self

    def __next__(self) -> tuple[int, bytes]:
        return self._pending.popleft() if self._pending else next(self._lines)

    def put_back(self, taken: list[tuple[int, bytes]]) -> None:
        self._pending.extendleft(reversed(taken))


def _cells(number: int, line: str, following: _Lines) -> list[str]:
    literal = chomp(line).split("\t")
    if not any(cell.startswith('"') for cell in literal):
        return literal
    taken: list[tuple[int, bytes]] = []
    never_ends = False

    def feed() -> Iterator[str]:
        nonlocal never_ends
        yield line
        if number <= following.alone:
            return
        room = MAX_LINE  # of a row as of a line: many long lines must not fill the memory either
        for item in following:
            taken.append(item)
            room -= len(item[1])
            if len(taken) >= _MAX_ROW_LINES or room < 0:
                break
            yield decode_line(item[1])
        never_ends = True

    try:
        return next(csv.reader(feed(), delimiter="\t", strict=True))
    except (csv.Error, Malformed):
        following.put_back(taken)
        if never_ends and taken:
            following.alone = taken[-1][0]
        return literal
