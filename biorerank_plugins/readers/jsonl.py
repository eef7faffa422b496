"""JSON Lines: one passage a line.

BEIR's ``{"_id", "title", "text", "metadata"}``, ``{"id", "text", "document", …}``, LangChain's ``page_content``,
Pyserini's ``contents``, ``{"pmid", "abstract"}`` and so on: ``fields.py`` has the names. All else becomes metadata.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.fields import ID, check_fields, find_field, take, text_and_title
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
    metadata = record.pop("metadata", None)
    if metadata is not None and not isinstance(metadata, dict):
        raise Malformed(f"'metadata' must be an object, got {type(metadata).__name__}.")
    if find_field(ID, record) is None:  # LangChain's documents keep all but the text in their metadata
        record = {**record, **(metadata or {})}
        metadata = None
    check_fields(record)
    id_ = take(record, ID)
    text, title = text_and_title(record)
    return make_passage(as_id(id_), as_text(text), as_title(title), {**record, **(metadata or {})})
