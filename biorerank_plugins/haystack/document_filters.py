"""Haystack's filters in the filter language of a passage index.

Both say the same, with these limits:

- Dates compare as ISO 8601 text, so a field must spell its dates in one way (``2020-05-01``, or all with the time).
  Other strings have no order, as in Haystack.
- A number and a string never compare: such a document is left out, where Haystack's own stores raise an error.
- Lists and dictionaries cannot be compared as a whole, and only ``id``, ``content`` and ``meta`` can be filtered by.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

from haystack.errors import FilterError

from biorerank_plugins.first_stage.filters import Filter

_ORDER = (">", ">=", "<", "<=")
_EQUALITY = ("==", "!=")
_MEMBERSHIP = ("in", "not in")
_LOGIC = ("AND", "OR", "NOT")
# The title of a passage is no metadata, but a document shows it there.
_COLUMNS = {"id": "id", "content": "text", "title": "title", "meta.title": "title"}
_NOT_INDEXED = ("meta", "blob", "score", "embedding", "sparse_embedding")
_ISO_DATE = re.compile(r"\d{4}(-\d\d(-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?)?)?")
_NEVER: Filter = {"id": {"in": []}}


class InvalidFilterError(FilterError, ValueError):
    """A filter is malformed, or asks for what a passage index cannot do."""


def translated(filters: Mapping[str, Any] | None) -> Filter | None:
    """Return the filter for :meth:`~biorerank_plugins.PassageIndex.search` that holds for the same documents.

    :param filters: a filter of Haystack; ``None`` and ``{}`` ask for nothing.
    :raises InvalidFilterError: if it is malformed.

    >>> translated({"field": "meta.year", "operator": ">=", "value": 2015})
    {'metadata.year': {'>=': 2015}}
    """
    return _condition(filters) if filters else None


def _condition(given: Any) -> Filter:
    if not isinstance(given, Mapping):
        raise InvalidFilterError(f"A filter must be a dictionary, got {type(given).__name__}: {given!r:.80}")
    needed = {"field", "operator", "value"} if "field" in given else {"operator", "conditions"}
    if missing := needed - given.keys():
        raise InvalidFilterError(
            f"The filter {dict(given)!r:.120} has no {' and no '.join(map(repr, sorted(missing)))}."
        )
    if "field" in given:
        return _comparison(_field(given["field"]), given["operator"], given["value"])
    return _logic(given["operator"], given["conditions"])


def _logic(operator: Any, conditions: Any) -> Filter:
    if operator not in _LOGIC:
        raise InvalidFilterError(f"Unknown logical operator {operator!r}. Choose one of: {', '.join(_LOGIC)}.")
    if not isinstance(conditions, (list, tuple)):
        raise InvalidFilterError(f"{operator!r} needs a list of conditions, got {type(conditions).__name__}.")
    parts = [_condition(part) for part in conditions]
    if operator == "OR":
        return {"$or": parts} if parts else _NEVER
    every: Filter = {"$and": parts} if parts else {"$not": _NEVER}
    return {"$not": every} if operator == "NOT" else every


def _field(name: Any) -> str:
    if not isinstance(name, str):
        raise InvalidFilterError(f"A field must be a string, got {type(name).__name__}: {name!r:.80}")
    if name in _COLUMNS:
        return _COLUMNS[name]
    key = name.removeprefix("meta.")
    # A bare name is a metadata key, as in Haystack; with a dot in it, Haystack would silently find nothing.
    if name in _NOT_INDEXED or (key == name and "." in name):
        raise InvalidFilterError(f"The field {name!r} cannot be filtered by. Choose id, content or meta.<key>.")
    return f"metadata.{key}"


def _comparison(field: str, operator: Any, value: Any) -> Filter:
    if operator in _MEMBERSHIP:
        if not isinstance(value, list):
            raise InvalidFilterError(
                f"{operator!r} on {field!r} needs a list, got {type(value).__name__}: {value!r:.80}"
            )
        return {field: {operator: [_scalar(field, item) for item in value]}}
    if operator in _EQUALITY:
        return {field: {operator: _scalar(field, value)}}
    if operator not in _ORDER:
        known = ", ".join((*_EQUALITY, *_ORDER, *_MEMBERSHIP))
        raise InvalidFilterError(f"Unknown operator {operator!r} on {field!r}. Choose one of: {known}.")
    if value is None:
        return _NEVER  # nothing is more or less than a missing value
    limit = _scalar(field, value)
    if isinstance(limit, str) and not _ISO_DATE.fullmatch(limit):
        raise InvalidFilterError(
            f"{operator!r} on {field!r} got {limit!r:.80}. Of strings, only dates as 2020-05-01 have an order."
        )
    return {field: {operator: int(limit) if isinstance(limit, bool) else limit}}


def _scalar(field: str, value: Any) -> Any:
    if isinstance(value, (list, tuple, set, Mapping)):
        raise InvalidFilterError(
            f"The condition on {field!r} compares with a {type(value).__name__}: {value!r:.80}. "
            "Expected a string, a number, a boolean, a date or None."
        )
    return value.isoformat() if isinstance(value, date) else value
