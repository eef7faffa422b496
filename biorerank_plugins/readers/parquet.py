"""Parquet files, a batch of rows at a time. Needs ``pyarrow``: the extra ``formats``.

Columns are found by the names of ``fields.py``; a column ``metadata`` (struct or map) and every other one becomes
metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from biorerank_plugins.errors import require_extra
from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.fields import header_of, plain_value, row_passage
from biorerank_plugins.readers.jsonl import parse_items
from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.readers.source import OpenFile

_AT_ONCE = 512
_T = TypeVar("_T")


def read(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give the passage of each row."""

    def check(names: list[str]) -> None:
        if "metadata" not in names:  # else it may hold what is looked for
            header_of(names, reading.keys)

    return parse_rows(file, reading, partial(row_passage, file, reading), check)


def parse_rows(
    file: OpenFile,
    reading: Reading,
    parse: Callable[[int, dict[str, Any]], _T],
    check: Callable[[list[str]], None] = lambda names: None,
) -> Iterator[_T]:
    """Give what ``parse(row number, row)`` makes of each row, without the cells that are empty.

    :param check: raises :class:`Malformed` for names of columns that nobody can use.
    """
    return parse_items(_rows(file, reading, check), file, reading, lambda number, row: parse(number, _record(row)))


def _rows(file: OpenFile, reading: Reading, check: Callable[[list[str]], None]) -> Iterator[tuple[int, dict[str, Any]]]:
    with require_extra("formats"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    try:
        with pq.ParquetFile(file.stream) as table:
            check(table.schema_arrow.names)
            rows = (row for batch in table.iter_batches(_AT_ONCE) for row in batch.to_pylist())
            yield from enumerate(rows, start=1)
    except Malformed as problem:
        reading.bad(problem, file.name)
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)
        reading.bad(f"Cannot be read as Parquet: {said}", file.name)


def _record(record: dict[str, Any]) -> dict[str, Any]:
    metadata = record.get("metadata")
    if isinstance(metadata, list):  # a map of Arrow comes as a list of pairs
        record["metadata"] = {str(item[0]): item[1] for item in metadata if isinstance(item, tuple) and len(item) == 2}
    plain = {name: plain_value(value) for name, value in record.items()}
    if isinstance(plain.get("metadata"), dict):
        plain["metadata"] = {name: value for name, value in plain["metadata"].items() if value is not None}
    return {name: value for name, value in plain.items() if value is not None}
