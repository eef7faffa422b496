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
``>`` ``>=``,  both are numbers, or both are strings (compared by code point, so ISO dates work), and the
``<`` ``<=``   comparison holds; a missing field never does
``in``         the field equals one value of the list
``not in``     ``in`` does not hold
``contains``   the field is a list and one of its items equals the value
``substring``  the field is a string and the value a part of it; ``isubstring``: in upper or lower case
``empty``      the field is missing, ``None``, ``""`` or ``[]`` (``True``), or none of these (``False``)
=============  ==========================================================================================

Values are strings, numbers, booleans and ``None``; scalars of NumPy count as what they hold.

Every condition is either true or false, as in Python (SQL's third value, unknown, does not exist here), so ``$not``
is always the exact opposite.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from biorerank_plugins.first_stage.filter_conditions import SqlCondition, field_condition, join, shown

Filter: TypeAlias = Mapping[str, Any]
"""A filter, as the module's text describes it."""

_MAX_DEPTH = 50


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


def requested_filter(filters: Filter | None) -> Filter | None:
    """Return a filter of a request as it is, for pydantic, which reports no error but a ValueError.

    :raises ValueError: if it is no filter, whatever is wrong with it.
    """
    try:
        compile_filter(filters)
    except TypeError as error:
        raise ValueError(str(error)) from error
    return filters


def _require_mapping(value: object, what: str) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(
            f'{what} must be a mapping such as {{"year": 2020}}, got {type(value).__name__}: {shown(value)}'
        )


def _all_of(filters: Filter, depth: int) -> SqlCondition:
    if depth > _MAX_DEPTH:
        raise ValueError(f"The filter is nested more than {_MAX_DEPTH} levels deep.")
    if not filters:
        raise ValueError("A nested filter must not be empty.")
    return join(" AND ", [_entry(key, value, depth) for key, value in filters.items()])


def _entry(key: object, value: Any, depth: int) -> SqlCondition:
    if not isinstance(key, str):
        raise TypeError(f"A filter's keys must be strings, got {type(key).__name__}: {key!r:.80}")
    if key in ("$and", "$or"):
        return _combination(key, value, depth)
    if key == "$not":
        _require_mapping(value, "The filter in '$not'")
        return _all_of(value, depth + 1).negated()
    if key.startswith("$"):
        raise ValueError(f"Unknown filter combination {key!r}. Expected one of: $and, $or, $not.")
    return field_condition(key, value)


def _combination(key: str, filters: Any, depth: int) -> SqlCondition:
    if not isinstance(filters, (list, tuple)):
        raise TypeError(f"{key!r} needs a list of filters, got {type(filters).__name__}: {shown(filters)}")
    if not filters:
        raise ValueError(f"{key!r} needs at least one filter.")
    for part in filters:
        _require_mapping(part, f"A filter in {key!r}")
    return join(" AND " if key == "$and" else " OR ", [_all_of(part, depth + 1) for part in filters])
