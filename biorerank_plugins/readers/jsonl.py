"""JSON Lines: one passage a line.

Two spellings: BEIR's ``{"_id", "title", "text", "metadata"}`` and ``{"id", "text", "document", …}``. Every other key
goes into the passage's metadata.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.lines import parse_lines
from biorerank_plugins.readers.records import as_id, as_text, as_title, listed, make_passage, parse_object
from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.readers.source import OpenFile

__all__ = ["pop_id", "read"]


def read(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give the passage of each line."""
    return parse_lines(file, reading, lambda _, line: _passage(parse_object(line)))


def pop_id(record: dict[str, Any]) -> str:
    """Take the id out of a record: ``_id``, or ``id`` where that is missing.

    :raises Malformed: if there is none.
    """
    if "_id" not in record and "id" not in record:
        raise Malformed(f"No 'id' or '_id'; the keys are: {listed(record)}.")
    return as_id(record.pop("_id") if "_id" in record else record.pop("id"))


def _passage(record: dict[str, Any]) -> Passage:
    if "text" not in record:
        raise Malformed(f"No 'text'; the keys are: {listed(record)}.")
    id_ = pop_id(record)
    text = as_text(record.pop("text"))
    title = as_title(record.pop("title", None))
    metadata = record.pop("metadata", None)
    if metadata is not None and not isinstance(metadata, dict):
        raise Malformed(f"'metadata' must be an object, got {type(metadata).__name__}.")
    return make_passage(id_, text, title, {**record, **(metadata or {})})
