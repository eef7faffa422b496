r"""Tab-separated values: ``id``, ``text`` and perhaps ``title``, with or without a header.

With a header (a first row that names an id and a text, by any name of ``fields.py``) the columns may be in any order,
and further ones become metadata. Without one there are two or three columns: id, text, title.

Quoting is decided row by row, because both habits are common and neither is declared: spreadsheets write ``"…"`` around
what holds tabs, quotes or line ends, retrieval collections write quotes as they are. A row that follows the rules of
quoting strictly is read that way (a quoted field may run over several lines); any other row is taken literally, so a
stray ``"`` never swallows what follows it.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator

from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.fields import ID, TEXT, find_field, known_columns, take, text_and_title
from biorerank_plugins.readers.lines import MAX_LINE, chomp, decode_line, raw_lines
from biorerank_plugins.readers.records import as_id, as_text, as_title, listed, make_passage
from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.readers.source import OpenFile

__all__ = ["read", "rows"]

# A quoted field with more line ends than this is a stray quote.
_MAX_ROW_LINES = 1_000


def read(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give the passage of each row."""
    columns: list[str] | None = None
    for number, cells in rows(file, reading):
        try:
            if columns is None:
                columns, is_header = _columns(cells)
                if is_header:
                    continue
            passage = _passage(columns, cells)
        except Malformed as problem:
            reading.bad(problem, file.name, number)
            continue
        yield passage


def rows(file: OpenFile, reading: Reading) -> Iterator[tuple[int, list[str]]]:
    """Give ``(line number, cells)`` of each row that is not blank."""
    # The module's limit is one for the whole process: raise it for fields that we allow, never lower it.
    if csv.field_size_limit() < MAX_LINE:
        csv.field_size_limit(MAX_LINE)
    lines = _Lines(raw_lines(file.stream))
    for number, raw in lines:
        try:
            line = decode_line(raw)
        except Malformed as problem:
            reading.bad(problem, file.name, number)
            continue
        if line.strip():
            yield number, _cells(number, line, lines)


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


def _columns(first: list[str]) -> tuple[list[str], bool]:
    """Return the names of the columns and whether the first row is a header."""
    names = [cell.strip() for cell in first]
    if find_field(TEXT, names) is not None and find_field(ID, names) is not None:
        if len({name.casefold() for name in names}) < len(names):
            raise Malformed(f"The header names a column twice: {listed(first)}.")
        return names, True
    if len(known := known_columns(first)) > 1 or (known and len(known) == len(first)):
        raise Malformed(f"The header names no id, or no text; the columns are: {listed(first)}.")
    if len(first) not in (2, 3):
        raise Malformed(
            f"Expected a header with id and text, or 2 or 3 tab-separated columns (id, text, title), got {len(first)}."
        )
    return ["id", "text", "title"][: len(first)], False


def _passage(columns: list[str], cells: list[str]) -> Passage:
    if len(cells) != len(columns):
        raise Malformed(f"Expected {len(columns)} tab-separated columns ({listed(columns)}), got {len(cells)}.")
    record = dict(zip(columns, cells, strict=True))
    id_ = take(record, ID)
    text, title = text_and_title(record)
    return make_passage(as_id(id_), as_text(text), as_title(title), record)
