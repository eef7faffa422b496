"""One table of the names under which files keep id, text and title of a passage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from biorerank_plugins.readers.records import as_title, listed
from biorerank_plugins.readers.report import Malformed

__all__ = ["ID", "NAMES", "TEXT", "TITLE", "check_fields", "find_field", "known_columns", "take", "text_and_title"]

ID, TEXT, TITLE = "id", "text", "title"
NAMES: Mapping[str, tuple[str, ...]] = {
    ID: ("_id", "id", "docid", "doc_id", "document_id", "passage_id", "pid", "pmid"),
    TEXT: ("text", "content", "contents", "page_content", "passage", "abstract", "body"),
    TITLE: ("title", "article_title", "document_title"),
}
"""Names of each field, the one that counts first; case, blanks and hyphens do not matter."""


def _plain(name: str) -> str:
    return name.strip().casefold().replace(" ", "_").replace("-", "_")


def find_field(field: str, names: Iterable[str]) -> str | None:
    """Return which of some names holds a field.

    :param field: ``ID``, ``TEXT`` or ``TITLE``.
    :param names: as the file writes them.

    >>> find_field(TEXT, ["PMID", "Title", "Abstract"])
    'Abstract'
    """
    by_plain: dict[str, str] = {}
    for name in names:
        by_plain.setdefault(_plain(name), name)
    return next((by_plain[name] for name in NAMES[field] if name in by_plain), None)


def known_columns(first: Iterable[str]) -> list[str]:
    """Return which cells of a first row are names of the table: a header has some."""
    every = {name for names in NAMES.values() for name in names}
    return [cell for cell in first if _plain(cell) in every]


def check_fields(record: Mapping[str, Any]) -> None:
    """Refuse a record that lacks a text or an id.

    :raises Malformed: if one is not there; the message has the keys that are.
    """
    for field in (TEXT, ID):
        if find_field(field, record) is None:
            others = ", ".join(NAMES[field][1:])
            raise Malformed(f"No {NAMES[field][0]!r} (nor {others}); the keys are: {listed(record)}.")


def take(record: dict[str, Any], field: str) -> Any:
    """Take a field out of a record; a PMID stays there too, as metadata.

    :param record: the record; it is changed.
    :param field: ``ID``, ``TEXT`` or ``TITLE``.
    :returns: the value; ``None`` if it is not there.
    """
    name = find_field(field, record)
    if name is None:
        return None
    value = record.pop(name)
    if _plain(name) == "pmid":
        record["pmid"] = str(value).strip() if isinstance(value, (str, int)) else value
    return value


def text_and_title(record: dict[str, Any]) -> tuple[Any, Any]:
    """Take text and title out of a record; of an article without an abstract the title is what can be found.

    :param record: the record; it is changed.
    """
    text, title = take(record, TEXT), take(record, TITLE)
    return (title, None) if text == "" and as_title(title) else (text, title)
