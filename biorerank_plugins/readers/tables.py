"""Tables: one passage a row. Comma- or tab-separated files; Excel and Parquet files have readers of their own.

A header names an id and a text, by any name of ``fields.py`` or by those that the caller gives, in any order; further
columns become metadata. A tab-separated file may do without: two or three columns then are id, text, title.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.delimited import Rows, csv_rows, paired, table_rows, tsv_rows
from biorerank_plugins.readers.fields import (
    HOW_TO_NAME,
    ID,
    TEXT,
    TITLE,
    find_field,
    header_of,
    known_columns,
    row_passage,
)
from biorerank_plugins.readers.records import listed
from biorerank_plugins.readers.report import USUAL_KEYS, Keys, Malformed, Reading
from biorerank_plugins.readers.source import OpenFile


def read_csv(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give the passage of each row."""
    return _read(csv_rows(file, reading), file, reading, lambda first: (header_of(first, reading.keys), True), True)


def read_tsv(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give the passage of each row."""
    return _read(tsv_rows(file, reading), file, reading, lambda first: _columns(first, reading.keys), False)


def _read(
    rows: Rows,
    file: OpenFile,
    reading: Reading,
    columns_of: Callable[[list[str]], tuple[list[str], bool]],
    needs_header: bool,
) -> Iterator[Passage]:
    def passage(number: int, columns: list[str], cells: list[str]) -> Passage:
        return cells_passage(columns, cells, reading.keys, f"{file.id}#{number}")

    return table_rows(rows, file, reading, columns_of, passage, needs_header=needs_header)


def _columns(first: list[str], keys: Keys) -> tuple[list[str], bool]:
    """Return the names of the columns, and whether the first row is a header that has them."""
    is_header = find_field(TEXT, first) is not None and find_field(ID, first) is not None
    known = known_columns(first)
    if is_header or keys != USUAL_KEYS or len(known) > 1 or (known and len(known) == len(first)):
        return header_of(first, keys), True
    if len(first) not in (2, 3):
        raise Malformed(
            f"Expected a header with id and text, or 2 or 3 tab-separated columns (id, text, title), got {len(first)}: "
            f"{listed(first)}. {HOW_TO_NAME}"
        )
    return [ID, TEXT, TITLE][: len(first)], False


def cells_passage(columns: Sequence[str], cells: Sequence[Any], keys: Keys, fallback: str) -> Passage:
    """Return the passage of a row; empty cells are no metadata.

    :param fallback: the id, where rows need none.
    :raises Malformed: if the row has another number of cells, no text, or no id.
    """
    row = paired(columns, cells)
    needed = {find_field(field, columns, keys) for field in (ID, TEXT)}
    return row_passage(
        {name: cell for name, cell in row if name and (name in needed or cell not in ("", None))}, keys, fallback
    )
