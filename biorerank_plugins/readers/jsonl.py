"""JSON Lines, one passage a line, or one JSON document: a list of passages. What is told by how a file begins.

BEIR's ``{"_id", "title", "text", "metadata"}``, ``{"id", "text", "document", …}``, LangChain's ``page_content``,
Pyserini's ``contents``, ``{"pmid", "abstract"}`` and so on: ``fields.py`` has the names. All else becomes metadata.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.fields import row_passage
from biorerank_plugins.readers.json_stream import array_items
from biorerank_plugins.readers.lines import parse_lines
from biorerank_plugins.readers.records import DECODER, check_object, parse_object
from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.readers.source import OpenFile

_T = TypeVar("_T")
# An unescaped key with a list: inside a JSON string its quotes would be escaped.
_BIOASQ_KEY = re.compile(rb'(?<!\\)"(questions|snippets)"\s*:\s*\[')
_QUESTIONS_KEY = re.compile(rb'(?<!\\)"questions"\s*:\s*\[')


def read(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give the passage of each line, or item of the list."""

    def passage(number: int, record: dict[str, Any]) -> Passage:
        if not isinstance(record.get("metadata"), (dict, type(None))):
            raise Malformed(f"'metadata' must be an object, got {type(record['metadata']).__name__}.")
        return row_passage(file, reading, number, record)

    return parse_records(file, reading, passage)


def parse_records(file: OpenFile, reading: Reading, parse: Callable[[int, dict[str, Any]], _T]) -> Iterator[_T]:
    """Give what ``parse(line number, object)`` makes of each object of JSON Lines or of a list."""
    if file.begin.startswith(b"["):
        return parse_items(array_items(file), file, reading, parse)
    return parse_lines(file, reading, lambda number, line: parse(number, parse_object(line)))


def parse_items(
    items: Iterator[tuple[int, Any]], file: OpenFile, reading: Reading, parse: Callable[[int, dict[str, Any]], _T]
) -> Iterator[_T]:
    """Give what ``parse(number of the line or row, object)`` makes of each item, and name what is malformed."""
    for number, value in items:
        with reading.noting(file.name, number):
            yield parse(number, check_object(value))


def first_object(begin: bytes) -> dict[str, Any] | None:
    """Return the first line's object, ``None`` if that line is longer than the head or no JSON object."""
    try:
        value = DECODER.decode(begin.partition(b"\n")[0].decode("utf-8").strip())
    except (ValueError, RecursionError, Malformed):
        return None
    return value if isinstance(value, dict) else None


def is_bioasq(begin: bytes) -> bool:
    """Tell questions of BioASQ from passages."""
    first = first_object(begin)
    if first is not None:
        return "text" not in first and ("questions" in first or "snippets" in first)
    return _BIOASQ_KEY.search(begin) is not None


def is_bioasq_document(begin: bytes) -> bool:
    """Tell a whole JSON document of questions from JSON Lines with one question a line."""
    if begin.startswith(b"["):
        return True
    first = first_object(begin)
    return "questions" in first if first is not None else _QUESTIONS_KEY.search(begin) is not None
