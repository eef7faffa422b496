"""Excel files (``.xlsx``), sheet by sheet and row by row. Needs ``openpyxl``: the extra ``formats``.

The first row of a sheet names its columns. Sheets that name no id and text are left out, and counted. Of formulas the
value is read that Excel saved with them; a file that holds none (other programs wrote it) says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from biorerank_plugins.errors import require_extra
from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.archive import check_office
from biorerank_plugins.readers.fields import ID, TEXT, cells_passage, find_field, header_of, plain_value
from biorerank_plugins.readers.report import Malformed, Reading, said
from biorerank_plugins.readers.source import OpenFile

_Rows = Iterator[tuple[int, list[Any]]]


def read(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give the passage of each row of each sheet that holds passages."""
    with require_extra("formats"):
        import openpyxl  # noqa: F401
    with reading.noting(file.name):
        check_office(file.stream)
        with _workbook(file, values=True) as book:
            yield from _sheets(book, file, reading)


def _sheets(book: Any, file: OpenFile, reading: Reading) -> Iterator[Passage]:
    refused: Malformed | None = None
    is_read = False
    for sheet in book.worksheets:
        rows = _rows(sheet)
        first = next(rows, None)
        if first is None:
            continue
        try:
            columns = header_of(["" if cell is None else str(cell) for cell in first[1]], reading.keys)
        except Malformed as problem:
            refused = refused or problem
            reading.report.left_out["sheet without passages"] += 1
            continue
        is_read = True
        yield from _passages(sheet.title, columns, rows, file, reading)
    if refused is not None and not is_read:
        raise refused


def _passages(sheet: str, columns: list[str], rows: _Rows, file: OpenFile, reading: Reading) -> Iterator[Passage]:
    needed = [columns.index(name) for field in (ID, TEXT) if (name := find_field(field, columns, reading.keys))]
    formulas = _formulas(file, sheet)
    for number, cells in rows:
        with reading.noting(file.name, number, f"Sheet {sheet!r}: "):
            cells = [*cells[: len(columns)], *[None] * (len(columns) - len(cells))]
            if any(cells[place] is None for place in needed):
                _refuse_formula(formulas, number, needed)
            yield cells_passage(file, reading, number, columns, [plain_value(cell) for cell in cells])


def _formulas(file: OpenFile, sheet: str) -> Iterator[tuple[int, Any]]:
    """Give the rows of a sheet once more, with the formulas themselves; the file is opened for the first one."""
    with _workbook(file, values=False) as book:
        yield from enumerate(book[sheet].iter_rows(values_only=True), start=1)


def _refuse_formula(formulas: Iterator[tuple[int, Any]], number: int, places: list[int]) -> None:
    """Refuse a formula without a value, which looks like an empty cell until one looks again."""
    row = next((cells for at, cells in formulas if at == number), ())
    found = next((row[at] for at in places if at < len(row) and str(row[at] or "").startswith("=")), None)
    if found is not None:
        raise Malformed(
            f"The cell holds the formula {str(found)[:60]!r} and no value. Open the file in Excel or LibreOffice "
            "and save it there, or save it as CSV."
        )


def _rows(sheet: Any) -> _Rows:
    """Give the rows that are not blank, without the empty cells at their end."""
    try:
        for number, row in enumerate(sheet.iter_rows(values_only=True), start=1):
            cells = list(row)
            while cells and cells[-1] in (None, ""):
                cells.pop()
            if cells:
                yield number, cells
    except Exception as error:  # a damaged sheet fails in any of openpyxl's lines
        raise _damaged(error) from error


@contextmanager
def _workbook(file: OpenFile, *, values: bool) -> Iterator[Any]:
    from openpyxl import load_workbook

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about styles and pictures, which nobody reads
        try:
            book = load_workbook(file.stream, read_only=True, data_only=values)
        except Exception as error:  # see above
            raise _damaged(error) from error
    try:
        yield book
    finally:
        book.close()


def _damaged(error: Exception) -> Malformed:
    return Malformed(f"The Excel file is damaged ({said(error)}).")
