"""Passages of a file, Parquet included, which the other readers do not know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from biorerank_plugins.errors import MissingExtraError, ReaderError
from biorerank_plugins.passages import Passage
from biorerank_plugins.readers import ReadReport, read_passages
from biorerank_plugins.readers.report import Reading

_ID_COLUMNS = ("id", "_id", "docid", "pmid")
_AT_ONCE = 4096


def read_file(path: Path, *, format: str = "auto", skip_bad: bool = False, report: ReadReport) -> Iterator[Passage]:
    """Read the passages of a file or a folder.

    :param path: a file of any format that :func:`read_passages` knows, a Parquet file, or a folder of such files.
    :param format: as :func:`read_passages` takes it; Parquet is known by its suffix.
    :param skip_bad: whether malformed lines are noted in ``report`` and left out.
    :param report: is filled while passages are read.
    :raises ReaderError: names the file, and the line or row.
    """
    if path.suffix == ".parquet":
        return read_parquet(path, skip_bad=skip_bad, report=report)
    if path.is_dir() and (files := sorted(path.rglob("*.parquet"))):
        return (p for file in files for p in read_parquet(file, skip_bad=skip_bad, report=report))
    return read_passages(path, format=format, bad_lines="skip" if skip_bad else "error", report=report)


def read_parquet(path: Path, *, skip_bad: bool = False, report: ReadReport | None = None) -> Iterator[Passage]:
    """Read a Parquet file with columns ``id`` (or ``_id``, ``docid``, ``pmid``), ``text`` and perhaps ``title``.

    A column ``metadata`` (struct or map) becomes metadata; so does every other column.

    :param path: the file.
    :param skip_bad: whether rows without id or text are noted in ``report`` and left out.
    :param report: is filled while passages are read.
    :raises ReaderError: if it is no such file, or a row has no id or text.
    :raises MissingExtraError: if pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("pyarrow", "ray") from error
    reading = Reading(report, skip=skip_bad)
    try:
        with pq.ParquetFile(path) as file:
            id_column = _id_column(file.schema_arrow.names, path)
            row = 0
            for batch in file.iter_batches(_AT_ONCE):
                for record in batch.to_pylist():
                    row += 1
                    try:
                        passage = _passage(record, id_column)
                    except (TypeError, ValueError) as error:
                        reading.bad(error, str(path), row)
                        continue
                    reading.report.read += 1
                    yield passage
    except (pa.ArrowInvalid, OSError) as error:
        raise ReaderError(f"Cannot be read as Parquet: {str(error).splitlines()[0]}", str(path)) from error


def _id_column(names: list[str], path: Path) -> str:
    found = next((name for name in _ID_COLUMNS if name in names), None)
    if found is None or "text" not in names:
        expected = f"{' or '.join(_ID_COLUMNS)}, and text"
        raise ReaderError(f"Expected the columns {expected}; found {', '.join(names)}.", str(path))
    return found


def _passage(record: dict[str, Any], id_column: str) -> Passage:
    id_, text, title = record.pop(id_column), record.pop("text"), record.pop("title", None)
    if id_ is None or not isinstance(text, str) or not text.strip():
        raise ValueError(f"The row has no {id_column if id_ is None else 'text'}.")
    given = record.pop("metadata", None) or {}
    # A map of Arrow comes as a list of pairs.
    metadata = dict(given) if isinstance(given, (Mapping, list)) else {"metadata": given}
    metadata.update(record)
    known = {name: value for name, value in metadata.items() if value is not None}
    return Passage(str(id_), text, None if title is None else str(title), known)
