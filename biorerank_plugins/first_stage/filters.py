"""The filter language of a passage index: plain mappings, turned into SQL with parameters only.

::

    {"year": 2020}                               equals
    {"journal": ["Lancet", "BMJ"]}               is one of
    {"year": {">=": 2015, "<": 2020}}            operators; all of them hold
    {"year": 2020, "journal": "BMJ"}             several fields; all of them hold
    {"$or": [filter, filter, …]}                 at least one holds
    {"$and": [filter, filter, …]}                all hold
    {"$not": filter}                             does not hold

Fields are keys of ``Passage.metadata``; a dot goes one level down (``"article.year"``). ``"id"``, ``"title"`` and
``"text"`` are those of the passage; a metadata key of such a name is ``"metadata.title"``.

=============  ==========================================================================================
operator       holds when
=============  ==========================================================================================
``==``         the field equals the value; ``None`` also matches a missing field
``!=``         ``==`` does not hold: a passage without the field is kept
``>`` ``>=``   both are numbers, or both are strings (compared by code point, so ISO dates work), and the
``<`` ``<=``   comparison holds; a missing field never does
``in``         the field equals one value of the list
``not in``     ``in`` does not hold
``contains``   the field is a list and one of its items equals the value
=============  ==========================================================================================

Values are strings, numbers, booleans and ``None``; scalars of NumPy count as what they hold.

Every condition is either true or false, as in Python (SQL's third value, unknown, does not exist here), so ``$not``
is always the exact opposite.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ["Filter", "SqlCondition", "compile_filter"]

Filter: TypeAlias = Mapping[str, Any]
"""A filter, as the module's text describes it."""

_COLUMNS = ("id", "title", "text")
_MAX_DEPTH = 50
_MAX_INTEGER = 2**63


@dataclass(frozen=True)
class SqlCondition:
    """A condition on the table ``passages``.

    :param sql: expression with ``?`` marks; its value is 0 or 1, never NULL.
    :param parameters: one value for each mark.
    """

    sql: str
    parameters: tuple[Any, ...]


def compile_filter(filters: Filter | None) -> SqlCondition | None:
    """Turn a filter into an SQL condition.

    :param filters: see the text of this module; ``None`` and ``{}`` ask for nothing.
    :returns: the condition, or ``None`` if every passage is allowed.
    :raises TypeError: if the filter, or a part of it, is of a type that makes no sense there.
    :raises ValueError: if it names an unknown operator or is malformed otherwise.

    >>> compile_filter({"id": "23185200"})
    SqlCondition(sql='id IS ?', parameters=('23185200',))
    """
    if filters is None:
        return None
    _require_mapping(filters, "A filter")
    return _all_of(filters, depth=0) if filters else None


def _shown(value: object) -> str:
    try:
        return f"{value!r:.80}"
    except RecursionError:
        return "nested too deeply to be shown"


def _require_mapping(value: object, what: str) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(
            f'{what} must be a mapping such as {{"year": 2020}}, got {type(value).__name__}: {_shown(value)}'
        )


def _all_of(filters: Filter, depth: int) -> SqlCondition:
    if depth > _MAX_DEPTH:
        raise ValueError(f"The filter is nested more than {_MAX_DEPTH} levels deep.")
    if not filters:
        raise ValueError("A nested filter must not be empty.")
    return _join(" AND ", [_entry(key, value, depth) for key, value in filters.items()])


def _entry(key: object, value: Any, depth: int) -> SqlCondition:
    if not isinstance(key, str):
        raise TypeError(f"A filter's keys must be strings, got {type(key).__name__}: {key!r:.80}")
    if key in ("$and", "$or"):
        return _combination(key, value, depth)
    if key == "$not":
        _require_mapping(value, "The filter in '$not'")
        inner = _all_of(value, depth + 1)
        return SqlCondition(f"NOT ({inner.sql})", inner.parameters)
    if key.startswith("$"):
        raise ValueError(f"Unknown filter combination {key!r}. Expected one of: $and, $or, $not.")
    return _field_conditions(_field(key), value)


def _combination(key: str, filters: Any, depth: int) -> SqlCondition:
    if isinstance(filters, (str, bytes, Mapping)) or not isinstance(filters, (list, tuple)):
        raise TypeError(f"{key!r} needs a list of filters, got {type(filters).__name__}: {_shown(filters)}")
    if not filters:
        raise ValueError(f"{key!r} needs at least one filter.")
    for part in filters:
        _require_mapping(part, f"A filter in {key!r}")
    return _join(" AND " if key == "$and" else " OR ", [_all_of(part, depth + 1) for part in filters])


def _join(word: str, parts: list[SqlCondition]) -> SqlCondition:
    if len(parts) == 1:
        return parts[0]
    # Balanced brackets: SQLite refuses an expression that is as deep as a long list of alternatives.
    half = len(parts) // 2
    left, right = _join(word, parts[:half]), _join(word, parts[half:])
    return SqlCondition(f"({left.sql}){word}({right.sql})", left.parameters + right.parameters)


@dataclass(frozen=True)
class _Field:
    name: str
    path: str | None  # JSON path inside the metadata; None for a column

    def value(self) -> SqlCondition:
        """Value as SQLite sees it; NULL if the field is missing."""
        if self.path is None:
            return SqlCondition(self.name, ())
        return SqlCondition("json_extract(metadata, ?)", (self.path,))

    def is_type(self, *types: str) -> SqlCondition:
        """Whether the stored value is of one of these JSON types."""
        listed = ", ".join(repr(name) for name in types)
        if self.path is None:
            return SqlCondition(f"CASE WHEN {self.name} IS NULL THEN 'null' ELSE 'text' END IN ({listed})", ())
        return SqlCondition(f"COALESCE(json_type(metadata, ?), 'null') IN ({listed})", (self.path,))


def _field(name: str) -> _Field:
    if name in _COLUMNS:
        return _Field(name, None)
    keys = name.removeprefix("metadata.").split(".")
    if not all(map(_is_key, keys)):
        raise ValueError(
            f"{name!r:.80} is no field that can be filtered by: expected metadata keys joined by dots, none of them "
            "empty and without quotes, backslashes, control characters or halves of surrogate pairs."
        )
    return _Field(name, "$" + "".join(f'."{key}"' for key in keys))


def _is_key(key: str) -> bool:
    """Whether SQLite's JSON paths can name this key."""
    return bool(key) and not any(c in '"\\' or unicodedata.category(c) in ("Cc", "Cs") for c in key)


def _field_conditions(field: _Field, value: Any) -> SqlCondition:
    if isinstance(value, Mapping):
        if not value:
            raise ValueError(f"The condition on {field.name!r} is empty. Expected one such as {{'>=': 2015}}.")
        return _join(" AND ", [_apply(field, operator, operand) for operator, operand in value.items()])
    return _apply(field, "in" if isinstance(value, (list, tuple, set, frozenset)) else "==", value)


def _apply(field: _Field, operator: object, operand: Any) -> SqlCondition:
    build = _OPERATORS.get(operator) if isinstance(operator, str) else None
    if build is None:
        raise ValueError(
            f"Unknown operator {operator!r} in the condition on {field.name!r}. "
            f"Expected one of: {', '.join(_OPERATORS)}."
        )
    return build(field, operand)


def _check_scalar(field: _Field, operand: Any) -> Any:
    value = _plain(operand)
    if value is not None and not isinstance(value, (str, int, float, bool)):
        raise TypeError(
            f"The condition on {field.name!r} compares with a {type(value).__name__}: {_shown(value)}. "
            "Expected a string, a number, a boolean or None."
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"The condition on {field.name!r} compares with {value!r}, which is not a finite number.")
    if isinstance(value, int) and not -_MAX_INTEGER <= value < _MAX_INTEGER:
        raise ValueError(f"The condition on {field.name!r} compares with {value!r}, which does not fit into 64 bits.")
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(
            f"The condition on {field.name!r} compares with {_shown(value)}, which holds half a surrogate pair "
            "and is no Unicode text."
        )
    return value


def _plain(value: Any) -> Any:
    """Return what a scalar of NumPy, or an array of no dimensions, holds; anything else as it is."""
    is_scalar = getattr(value, "shape", None) == () and callable(getattr(value, "item", None))
    return value.item() if is_scalar else value


def _equals(field: _Field, operand: Any) -> SqlCondition:
    value = _check_scalar(field, operand)
    stored = field.value()
    same = SqlCondition(f"{stored.sql} IS ?", (*stored.parameters, value))
    if field.path is None or value is None:
        return same
    # A list or an object comes back as its JSON text, which must not equal a string.
    return _join(" AND ", [same, field.is_type(*_json_types(value))])


def _json_types(value: Any) -> tuple[str, ...]:
    # True == 1 in Python, and SQLite reads true as 1.
    return ("text",) if isinstance(value, str) else ("integer", "real", "true", "false")


def _compare(operator: str) -> Callable[[_Field, Any], SqlCondition]:
    def build(field: _Field, operand: Any) -> SqlCondition:
        value = _check_scalar(field, operand)
        if value is None or isinstance(value, bool):
            raise TypeError(f"{operator!r} on {field.name!r} needs a number or a string, got {value!r}.")
        stored = field.value()
        holds = SqlCondition(f"COALESCE({stored.sql} {operator} ?, 0)", (*stored.parameters, value))
        # SQLite orders every number before every string; values of two kinds are not comparable here.
        return _join(" AND ", [field.is_type(*_json_types(value)), holds])

    return build


def _one_of(field: _Field, operand: Any) -> SqlCondition:
    if not isinstance(operand, (list, tuple, set, frozenset)):
        raise TypeError(
            f"'in' on {field.name!r} needs a list of values, got {type(operand).__name__}: {_shown(operand)}"
        )
    values = [_check_scalar(field, value) for value in operand]
    stored = field.value()
    # One JSON parameter, because SQLite limits the number of parameters, not their length.
    listed = json.dumps([value for value in values if value is not None], ensure_ascii=False)
    parts = [
        field.is_type("text", "integer", "real", "true", "false"),
        SqlCondition(f"{stored.sql} IN (SELECT value FROM json_each(?))", (*stored.parameters, listed)),
    ]
    member = _join(" AND ", parts)
    return _join(" OR ", [member, _equals(field, None)]) if None in values else member


def _contains(field: _Field, operand: Any) -> SqlCondition:
    value = _check_scalar(field, operand)
    if field.path is None:
        raise ValueError(f"'contains' needs a metadata field that holds a list; {field.name!r} is a string.")
    types = ("null",) if value is None else _json_types(value)
    kinds = ", ".join(repr(name) for name in types)
    exists = SqlCondition(
        f"EXISTS (SELECT 1 FROM json_each(metadata, ?) AS item WHERE item.value IS ? AND item.type IN ({kinds}))",
        (field.path, value),
    )
    return _join(" AND ", [field.is_type("array"), exists])


def _negate(build: Callable[[_Field, Any], SqlCondition]) -> Callable[[_Field, Any], SqlCondition]:
    def negated(field: _Field, operand: Any) -> SqlCondition:
        inner = build(field, operand)
        return SqlCondition(f"NOT ({inner.sql})", inner.parameters)

    return negated


_OPERATORS: dict[str, Callable[[_Field, Any], SqlCondition]] = {
    "==": _equals,
    "!=": _negate(_equals),
    ">": _compare(">"),
    ">=": _compare(">="),
    "<": _compare("<"),
    "<=": _compare("<="),
    "in": _one_of,
    "not in": _negate(_one_of),
    "contains": _contains,
}
