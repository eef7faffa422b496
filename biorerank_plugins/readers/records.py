"""From raw values to passages: strict JSON, checked strings, PubMed addresses; what is wrong is :class:`Malformed`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from biorerank_plugins.articles.identifiers import pmid_in_address
from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.report import Malformed

_MAX_DEPTH = 64


def _constant(literal: str) -> NoReturn:
    raise Malformed(f"{literal} is no JSON value. Write null or leave the key out.")


def _number(literal: str) -> float:
    value = float(literal)
    if not math.isfinite(value):
        raise Malformed(f"The number {literal:.40} is too large for a float.")
    return value


DECODER = json.JSONDecoder(parse_constant=_constant, parse_float=_number)
"""Strict JSON: no NaN, no infinity."""


def parse_object(line: str) -> dict[str, Any]:
    """Parse one JSON object."""
    try:
        value = DECODER.decode(line.strip())
    except json.JSONDecodeError as error:
        raise Malformed(f"Not valid JSON (one object a line): {error.msg} at column {error.colno}.") from None
    except RecursionError:
        raise Malformed("The JSON is nested too deeply.") from None
    except ValueError as error:  # an integer of thousands of digits
        raise Malformed(f"Not usable as JSON: {error}.") from None
    return check_object(value)


def check_object(value: Any) -> dict[str, Any]:
    """Return what is a JSON object, not nested too deeply, and without half a surrogate pair."""
    if not isinstance(value, dict):
        raise Malformed(f"Expected a JSON object, got {_kind(value)}.")
    level: list[Any] = [value]
    for _ in range(_MAX_DEPTH):
        inner: list[Any] = []
        for container in level:
            for item in [*container, *container.values()] if isinstance(container, dict) else container:
                if isinstance(item, str):
                    _check_unicode(item)
                elif isinstance(item, (dict, list)):
                    inner.append(item)
        if not inner:
            return value
        level = inner
    raise Malformed(f"The JSON is nested more than {_MAX_DEPTH} levels deep.")


def _check_unicode(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Malformed(f"Half a surrogate pair (U+{ord(text[error.start]):04X}) is no Unicode text.") from None


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def as_id(value: Any, name: str = "id") -> str:
    """Return an id as a string; numbers are taken, ``0`` too."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return as_text(value, name)


def as_text(value: Any, name: str = "text") -> str:
    """Return a string that says something: neither missing nor blank."""
    if value is None:
        raise Malformed(f"No {name}.")
    if not isinstance(value, str):
        raise Malformed(f"The {name} must be a string, got {_kind(value)}.")
    if not value.strip():
        raise Malformed(f"The {name} is empty.")
    if "\0" in value:
        raise Malformed(f"The {name} holds a NUL character.")
    return value


def as_title(value: Any) -> str | None:
    """Return a title, ``None`` if it is missing or blank."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    return as_text(value, "title")


def listed(names: Iterable[str]) -> str:
    """Return names of keys or columns for an error: on one line, not too long."""
    return ", ".join(name if name.isprintable() else repr(name) for name in names)[:200] or "none"


def article_passage(
    id_: str, abstract: str, title: str, metadata: Mapping[str, Any], *, name: str | None = None
) -> Passage:
    """Return the passage of an article: its abstract, or its title where there is none.

    :param name: what an error calls it; ``None`` for the id.
    :param metadata: what says nothing is left out; that an article is *not* retracted says something.
    """
    known = {name: value for name, value in metadata.items() if value or value is False}
    if abstract:
        return Passage(id_, abstract, title or None, known)
    if not title:
        raise Malformed(f"{name or id_} has neither abstract nor title.")
    return Passage(id_, title, None, {"section": "title", **known})


def make_passage(id_: str, text: str, title: str | None, metadata: Mapping[str, Any]) -> Passage:
    """Return the passage; a PubMed address under ``document`` also gives ``metadata["pmid"]``."""
    pmid = pmid_in_address(metadata.get("document"))
    if pmid and metadata.get("pmid") is None:
        metadata = {**metadata, "pmid": pmid}
    return Passage(id_, text, title, metadata)
