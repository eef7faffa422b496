"""Comma-separated values with a header, as spreadsheets write them (RFC 4180); semicolons too."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.fields import ID, TEXT, find_field, take, text_and_title
from biorerank_plugins.readers.lines import MAX_LINE, decode_line, raw_lines
from biorerank_plugins.readers.records import as_id, as_text, as_title, listed, make_passage
from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.readers.source import OpenFile

__all__ = ["read"]


def read(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give the passage of each row.

    A row that breaks the rules of quoting ends the reading: nobody knows where the next one begins.
    """
    if csv.field_size_limit() < MAX_LINE:
        csv.field_size_limit(MAX_LINE)
    head = file.head.partition(b"\n")[0]
    rows = csv.reader(_lines(file), delimiter=";" if head.count(b";") > head.count(b",") else ",", strict=True)
    columns: list[str] | None = None
    try:
        for cells in rows:
            if not any(cell.strip() for cell in cells):
                continue
            try:
                if columns is None:
                    columns = _header(cells)
                    continue
                passage = _passage(columns, cells)
            except Malformed as problem:
                reading.bad(problem, file.name, rows.line_num)
                if columns is None:
                    return
                continue
            yield passage
    except (csv.Error, Malformed) as problem:
        reading.bad(f"{problem}; what follows is not read." if columns else problem, file.name, rows.line_num)


def _lines(file: OpenFile) -> Iterator[str]:
    for _, raw in raw_lines(file.stream):
        yield decode_line(raw)


def _header(cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    if find_field(ID, names) is None or find_field(TEXT, names) is None:
        raise Malformed(f"Expected a header that names an id and a text; the columns are: {listed(names)}.")
    return names


def _passage(columns: list[str], cells: list[str]) -> Passage:
    if len(cells) != len(columns):
        raise Malformed(f"Expected {len(columns)} columns ({listed(columns)}), got {len(cells)}.")
    record = {name: cell for name, cell in zip(columns, cells, strict=True) if name}
    id_ = take(record, ID)
    text, title = text_and_title(record)
    metadata = {name: value for name, value in record.items() if value}
    return make_passage(as_id(id_), as_text(text), as_title(title), metadata)
