"""Tables: one passage a row. Comma- or tab-separated files; Excel and Parquet files have readers of their own.

A header names an id and a text, by any name of ``fields.py`` or by those that the caller gives, in any order; further
columns become metadata. A tab-separated file may do without: two or three columns then are id, text, title.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.delimited import csv_rows, tsv_rows
from biorerank_plugins.readers.fields import HOW_TO_NAME, ID, TEXT, find_field, header_of, known_columns, row_passage
from biorerank_plugins.readers.records import listed
from biorerank_plugins.readers.report import USUAL_KEYS, Keys, Malformed, Reading
from biorerank_plugins.readers.source import OpenFile

_BARE = ("id", "text", "title")


def read_csv(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give the passage of each row."""
    columns: list[str] | None = None
    for number, cells in csv_rows(file, reading):
        try:
            if columns is None:
                columns = header_of(cells, reading.keys)
                continue
            passage = cells_passage(columns, cells, reading.keys, f"{file.id}#{number}")
        except Malformed as problem:
            reading.bad(problem, file.name, number)
            if columns is None:
                return
            continue
        yield passage


def read_tsv(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give the passage of each row."""
    columns: list[str] | None = None
    for number, cells in tsv_rows(file, reading):
        try:
            if columns is None:
                columns, is_header = _columns(cells, reading.keys)
                if is_header:
                    continue
            passage = cells_passage(columns, cells, reading.keys, f"{file.id}#{number}")
        except Malformed as problem:
            reading.bad(problem, file.name, number)
            continue
        yield passage


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
    return list(_BARE[: len(first)]), False


def cells_passage(columns: Sequence[str], cells: Sequence[Any], keys: Keys, fallback: str) -> Passage:
    """Return the passage of a row; empty cells are no metadata.

    :param columns: names of the columns; one without a name is left out.
    :param cells: values of the row.
    :param keys: what the caller says.
    :param fallback: the id, where rows need none.
    :raises Malformed: if the row has another number of cells, no text, or no id.
    """
    if len(cells) != len(columns):
        raise Malformed(f"Expected {len(columns)} columns ({listed(columns)}), got {len(cells)}.")
    needed = {find_field(field, columns, keys) for field in (ID, TEXT)}
    row = zip(columns, cells, strict=True)
    return row_passage(
        {name: cell for name, cell in row if name and (name in needed or cell not in ("", None))}, keys, fallback
    )
