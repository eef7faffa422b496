"""Conditions on one field of a passage, as SQL with parameters only."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

LOWER = "biorerank_lower"
"""Name of :func:`lower` in SQL: a connection that runs conditions must know it, since SQLite's own is for ASCII."""

_COLUMNS = ("id", "title", "text")
_MAX_INTEGER = 2**63


@dataclass(frozen=True)
class SqlCondition:
    """A condition on the table ``passages``.

    :param sql: expression with ``?`` marks; its value is 0 or 1, never NULL.
    :param parameters: one value for each mark.
    """

    sql: str
    parameters: tuple[Any, ...]

    def negated(self) -> SqlCondition:
        """Return the exact opposite."""
        return SqlCondition(f"NOT ({self.sql})", self.parameters)


def lower(value: object) -> str | None:
    """Return a string in lower case, as Python has it; anything else is NULL."""
    return value.lower() if isinstance(value, str) else None


def join(word: str, parts: list[SqlCondition]) -> SqlCondition:
    """Return one or more conditions as one, joined by ``" AND "`` or ``" OR "``."""
    if len(parts) == 1:
        return parts[0]
    # Balanced brackets: SQLite refuses an expression that is as deep as a long list of alternatives.
    half = len(parts) // 2
    left, right = join(word, parts[:half]), join(word, parts[half:])
    return SqlCondition(f"({left.sql}){word}({right.sql})", left.parameters + right.parameters)


def shown(value: object) -> str:
    """Return a value as an error shows it."""
    try:
        return f"{value!r:.80}"
    except RecursionError:
        return "nested too deeply to be shown"


def field_condition(name: str, value: Any) -> SqlCondition:
    """Return the condition on one field.

    :param value: what it must equal, a list of which it is one, or operators with what they compare to.
    """
    field = _field(name)
    if isinstance(value, Mapping):
        if not value:
            raise ValueError(f"The condition on {field.name!r} is empty. Expected one such as {{'>=': 2015}}.")
        return join(" AND ", [_apply(field, operator, operand) for operator, operand in value.items()])
    return _apply(field, "in" if isinstance(value, (list, tuple, set, frozenset)) else "==", value)


def _apply(field: _Field, operator: object, operand: Any) -> SqlCondition:
    build = _OPERATORS.get(operator) if isinstance(operator, str) else None
    if build is None:
        raise ValueError(
            f"Unknown operator {operator!r} in the condition on {field.name!r}. "
            f"Expected one of: {', '.join(_OPERATORS)}."
        )
    return build(field, operand)


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


def _check_scalar(field: _Field, operand: Any) -> Any:
    value = _plain(operand)
    compares = f"The condition on {field.name!r} compares with"
    if value is not None and not isinstance(value, (str, int, float, bool)):
        expected = "Expected a string, a number, a boolean or None."
        raise TypeError(f"{compares} a {type(value).__name__}: {shown(value)}. {expected}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{compares} {value!r}, which is not a finite number.")
    if isinstance(value, int) and not -_MAX_INTEGER <= value < _MAX_INTEGER:
        raise ValueError(f"{compares} {value!r}, which does not fit into 64 bits.")
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{compares} {shown(value)}, which holds half a surrogate pair and is no Unicode text.")
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
    return join(" AND ", [same, field.is_type(*_json_types(value))])


def _json_types(value: Any) -> tuple[str, ...]:
    # True == 1 in Python, and SQLite reads true as 1.
    return ("text",) if isinstance(value, str) else ("integer", "real", "true", "false")


def _compare(operator: str, field: _Field, operand: Any) -> SqlCondition:
    value = _check_scalar(field, operand)
    if value is None or isinstance(value, bool):
        raise TypeError(f"{operator!r} on {field.name!r} needs a number or a string, got {value!r}.")
    stored = field.value()
    holds = SqlCondition(f"COALESCE({stored.sql} {operator} ?, 0)", (*stored.parameters, value))
    # SQLite orders every number before every string; values of two kinds are not comparable here.
    return join(" AND ", [field.is_type(*_json_types(value)), holds])


def _one_of(field: _Field, operand: Any) -> SqlCondition:
    if not isinstance(operand, (list, tuple, set, frozenset)):
        raise TypeError(
            f"'in' on {field.name!r} needs a list of values, got {type(operand).__name__}: {shown(operand)}"
        )
    values = [_check_scalar(field, value) for value in operand]
    stored = field.value()
    # One JSON parameter, because SQLite limits the number of parameters, not their length.
    listed = json.dumps([value for value in values if value is not None], ensure_ascii=False)
    parts = [
        field.is_type("text", "integer", "real", "true", "false"),
        SqlCondition(f"{stored.sql} IN (SELECT value FROM json_each(?))", (*stored.parameters, listed)),
    ]
    member = join(" AND ", parts)
    return join(" OR ", [member, _equals(field, None)]) if None in values else member


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
    return join(" AND ", [field.is_type("array"), exists])


def _substring(wrap: str, field: _Field, operand: Any) -> SqlCondition:
    value = _check_scalar(field, operand)
    if not isinstance(value, str):
        raise TypeError(f"'substring' and 'isubstring' on {field.name!r} need a string, got {shown(value)}.")
    stored = field.value()
    found = f"COALESCE(instr({wrap}({stored.sql}), {wrap}(?)), 0) > 0"
    return join(" AND ", [field.is_type("text"), SqlCondition(found, (*stored.parameters, value))])


def _empty(field: _Field, operand: Any) -> SqlCondition:
    if not isinstance(operand, bool):
        raise TypeError(f"'empty' on {field.name!r} needs True or False, got {shown(operand)}.")
    parts = [_equals(field, None), _equals(field, "")]
    if field.path is not None:
        length = SqlCondition("COALESCE(json_array_length(metadata, ?), 1) = 0", (field.path,))
        parts.append(join(" AND ", [field.is_type("array"), length]))
    found = join(" OR ", parts)
    return found if operand else found.negated()


def _negate(build: Callable[[_Field, Any], SqlCondition]) -> Callable[[_Field, Any], SqlCondition]:
    return lambda field, operand: build(field, operand).negated()


_OPERATORS: dict[str, Callable[[_Field, Any], SqlCondition]] = {
    "==": _equals,
    "!=": _negate(_equals),
    ">": partial(_compare, ">"),
    ">=": partial(_compare, ">="),
    "<": partial(_compare, "<"),
    "<=": partial(_compare, "<="),
    "in": _one_of,
    "not in": _negate(_one_of),
    "contains": _contains,
    "substring": partial(_substring, ""),
    "isubstring": partial(_substring, LOWER),
    "empty": _empty,
}
