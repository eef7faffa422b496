"""One table of the names under which files keep id, text and title of a passage, and the passage of a row.

What cannot become a passage raises :class:`Malformed`; the message has the keys or columns that are there.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any

from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.records import as_id, as_text, as_title, listed, make_passage, parse_object
from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.readers.source import OpenFile

ID, TEXT, TITLE = "id", "text", "title"
NAMES: Mapping[str, tuple[str, ...]] = {
    ID: (
        "_id", "id", "docid", "doc_id", "document_id", "passage_id", "chunk_id", "node_id", "id_", "pid", "pmid",
    ),
    TEXT: (
        "text", "content", "contents", "page_content", "passage", "passage_text", "chunk_text", "abstract", "body",
    ),
    TITLE: ("title", "article_title", "document_title"),
}  # fmt: skip
"""Names of each field, the one that counts first; case, blanks and hyphens do not matter."""

_CHUNK = "page_content"  # LangChain's documents need have no id
HOW_TO_NAME = "Name them with id_key, text_key, title_key (--id-key, --text-key, --title-key)."


def plain_name(name: str) -> str:
    """Return a name as it is compared."""
    return name.strip().casefold().replace(" ", "_").replace("-", "_")


def find_field(field: str, names: Iterable[str], keys: Mapping[str, str]) -> str | None:
    """Return which of some names holds a field: ``Abstract`` of ``PMID, Title, Abstract`` the ``TEXT``."""
    by_plain: dict[str, str] = {}
    for name in names:
        by_plain.setdefault(plain_name(name), name)
    wanted = keys.get(field)
    usual = NAMES[field] if wanted is None else (plain_name(wanted),)
    return next((by_plain[name] for name in usual if name in by_plain), None)


def header_of(cells: Iterable[str], keys: Mapping[str, str]) -> list[str]:
    """Return the names of a table's columns, which must name a text, an id, and what the caller asked for."""
    names = [cell.strip() for cell in cells]
    for field in (TEXT, ID, TITLE):
        wanted = keys.get(field)
        needed = field == TEXT or (field == ID and TEXT not in keys)
        if (wanted is not None or needed) and find_field(field, names, keys) is None:
            what = f"no column {wanted!r}" if wanted is not None else f"a header that names no {field}"
            raise Malformed(f"The table has {what}; the columns are: {listed(names)}. {HOW_TO_NAME}")
    used = {plain_name(name) for field in (ID, TEXT, TITLE) if (name := find_field(field, names, keys))}
    if sum(plain_name(name) in used for name in names) > len(used):
        raise Malformed(f"The header names a column twice: {listed(names)}.")
    return names


def paired(columns: list[str], cells: list[Any]) -> list[tuple[str, Any]]:
    """Return the cells of a row with the names of their columns."""
    if len(cells) != len(columns):
        raise Malformed(f"Expected {len(columns)} columns ({listed(columns)}), got {len(cells)}.")
    return list(zip(columns, cells, strict=True))


def cells_passage(file: OpenFile, reading: Reading, number: int, columns: list[str], cells: list[Any]) -> Passage:
    """Return the passage of a row of a table; empty cells are no metadata."""
    row = paired(columns, cells)
    needed = {find_field(field, columns, reading.keys) for field in (ID, TEXT)}
    record = {name: cell for name, cell in row if name and (name in needed or cell not in ("", None))}
    return row_passage(file, reading, number, record)


def row_passage(file: OpenFile, reading: Reading, number: int, record: dict[str, Any]) -> Passage:
    """Return the passage of a row or JSON object, which is changed; what is no field of it becomes metadata.

    An object under ``metadata`` is taken for more of the row. A row that may do without an id is called by its number.
    """
    keys = reading.keys
    metadata = record.pop("metadata", None)
    if isinstance(metadata, str) and metadata.lstrip().startswith("{"):  # as a table keeps an object
        with suppress(Malformed):
            metadata = parse_object(metadata)
    if metadata is not None and not isinstance(metadata, Mapping):
        record["metadata"], metadata = metadata, None
    more = dict(metadata or {})
    if any(find_field(field, record, keys) is None for field in (ID, TEXT)):
        record, more = {**record, **more}, {}
    id_ = _id(record, keys, f"{file.id}#{number}")
    text, title = _take(record, TEXT, keys), _take(record, TITLE, keys)
    if text == "" and as_title(title):  # of an article without an abstract the title is what can be found
        text, title = title, None
    return make_passage(as_id(id_), as_text(text), as_title(title), {**record, **more})


def _id(record: dict[str, Any], keys: Mapping[str, str], fallback: str) -> Any:
    """Take the id; refuse a record without one, or without a text, before it is taken apart."""
    place = find_field(TEXT, record, keys)
    if place is None:
        raise Malformed(_missing(TEXT, record, keys))
    if find_field(ID, record, keys) is None:
        # Who says where the text is, or takes chunks from LangChain, can do without ids.
        if ID in keys or (TEXT not in keys and plain_name(place) != _CHUNK):
            raise Malformed(_missing(ID, record, keys))
        return fallback
    found = _take(record, ID, keys)
    return fallback if found is None and plain_name(place) == _CHUNK else found


def _missing(field: str, record: Mapping[str, Any], keys: Mapping[str, str]) -> str:
    wanted = keys.get(field)
    if wanted is not None:
        return f"No {wanted!r}; the keys are: {listed(record)}."
    others = ", ".join(NAMES[field][1:])
    return f"No {NAMES[field][0]!r} (nor {others}); the keys are: {listed(record)}. {HOW_TO_NAME}"


def _take(record: dict[str, Any], field: str, keys: Mapping[str, str]) -> Any:
    """Take a field out of a record; a PMID stays there too, as metadata."""
    name = find_field(field, record, keys)
    if name is None:
        return None
    value = record.pop(name)
    if field == ID and isinstance(value, float) and value.is_integer():
        value = int(value)  # pandas turns a column of numbers with gaps into floats
    if plain_name(name) == "pmid":
        record["pmid"] = str(value).strip() if isinstance(value, (str, int)) else value
    return value


def plain_value(value: Any) -> Any:
    """Return the value of a cell as JSON has it; what stands for "missing" as ``None``."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, (float, Decimal)):
        number = float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return {str(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_value(item) for item in value]
    raise Malformed(f"A cell holds {type(value).__name__}, which is no text or number.")
