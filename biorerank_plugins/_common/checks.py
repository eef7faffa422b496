"""Checks of arguments that several modules share: what was expected, what came."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Set
from typing import TypeGuard, TypeVar

T = TypeVar("T")


def whole_number(name: str, value: object, *, least: int = 1) -> int:
    """Return a whole number of at least ``least``; a bool is none.

    :raises ValueError: if it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}.")
    return int(value)


def positive_number(name: str, value: object) -> float:
    """Return a number above 0.

    :raises ValueError: if it is something else, or not a number.
    """
    if not _is_real(value) or not value > 0:
        raise ValueError(f"{name} must be a number above 0, got {value!r}.")
    return float(value)


def finite_number(name: str, value: object, *, low: float = -math.inf, high: float = math.inf) -> float:
    """Return a finite number between ``low`` and ``high``.

    :raises ValueError: if it is something else.
    """
    if not _is_real(value) or not math.isfinite(value) or not low <= value <= high:
        limits = "" if low == -math.inf else f" between {low:g} and {high:g}"
        raise ValueError(f"{name} must be a finite number{limits}, got {value!r}.")
    return float(value)


def string(name: str, value: object) -> str:
    """Return a string.

    :raises TypeError: if it is something else.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {type(value).__name__}: {value!r:.80}")
    return value


def check_query(value: object) -> str:
    """Return a query that says something.

    :raises TypeError: if it is no string.
    :raises ValueError: if it is empty or only white space.
    """
    query = string("The query", value)
    if not query.strip():
        raise ValueError("The query is empty; give the question to rank for.")
    return query


def in_order(what: str, value: Iterable[T]) -> Iterable[T]:
    """Return what stands in an order.

    :param what: what it should be, as ``"a list of texts"``.
    :raises TypeError: if it is one text, has no order (a set), or would give its keys or the names of its columns
        instead of its contents (a mapping, a table).
    """
    if isinstance(value, (str, bytes, Mapping, Set)) or hasattr(value, "columns") or not isinstance(value, Iterable):
        hint = "Put it in a list." if isinstance(value, (str, bytes)) else "Give its texts as a list."
        raise TypeError(f"Expected {what}, got {type(value).__name__}: {value!r:.80}. {hint}")
    return value


def _is_real(value: object) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        float(value)
    except OverflowError:  # an integer beyond all floats
        return False
    return True
