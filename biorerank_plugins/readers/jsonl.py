"""JSON Lines, one passage a line, or one JSON document: a list of passages.

BEIR's ``{"_id", "title", "text", "metadata"}``, ``{"id", "text", "document", …}``, LangChain's ``page_content``,
Pyserini's ``contents``, ``{"pmid", "abstract"}`` and so on: ``fields.py`` has the names. All else becomes metadata.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.fields import row_passage
from biorerank_plugins.readers.json_stream import array_items
from biorerank_plugins.readers.lines import parse_lines
from biorerank_plugins.readers.records import check_object, parse_object
from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.readers.source import OpenFile

_T = TypeVar("_T")


def read(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give the passage of each line, or item of the list."""

    def passage(number: int, record: dict[str, Any]) -> Passage:
        if not isinstance(record.get("metadata"), (dict, type(None))):
            raise Malformed(f"'metadata' must be an object, got {type(record['metadata']).__name__}.")
        return row_passage(record, reading.keys, f"{file.id}#{number}")

    return parse_records(file, reading, passage)


def is_array(head: bytes) -> bool:
    """Tell a JSON document that is a list from JSON Lines."""
    return head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")


def parse_records(file: OpenFile, reading: Reading, parse: Callable[[int, dict[str, Any]], _T]) -> Iterator[_T]:
    """Give what ``parse(line number, object)`` makes of each object of JSON Lines or of a list.

    :param parse: raises :class:`Malformed` for an object that it cannot use.
    """
    if is_array(file.head):
        return parse_items(array_items(file), file, reading, parse)
    return parse_lines(file, reading, lambda number, line: parse(number, parse_object(line)))


def parse_items(
    items: Iterator[tuple[int, Any]], file: OpenFile, reading: Reading, parse: Callable[[int, dict[str, Any]], _T]
) -> Iterator[_T]:
    """Give what ``parse(number, object)`` makes of each item, and name what is malformed.

    :param items: ``(number, value)`` of each; the number is that of a line or row.
    :param parse: raises :class:`Malformed` for an object that it cannot use.
    """
    for number, value in items:
        try:
            made = parse(number, check_object(value))
        except Malformed as problem:
            reading.bad(problem, file.name, number)
            continue
        yield made
