"""LlamaIndex's metadata filters in the filter language of a passage index."""

from __future__ import annotations

from typing import Any

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from biorerank_plugins.first_stage.filters import Filter, compile_filter

_OF_ONE_VALUE = {
    FilterOperator.EQ: "==",
    FilterOperator.GT: ">",
    FilterOperator.GTE: ">=",
    FilterOperator.LT: "<",
    FilterOperator.LTE: "<=",
    FilterOperator.CONTAINS: "contains",
    FilterOperator.TEXT_MATCH: "substring",
    FilterOperator.TEXT_MATCH_INSENSITIVE: "isubstring",
}
_OF_LIST = (FilterOperator.IN, FilterOperator.ANY, FilterOperator.ALL)
_NEGATED = {FilterOperator.NE: FilterOperator.EQ, FilterOperator.NIN: FilterOperator.IN}


def index_filter(filters: MetadataFilters | None) -> Filter | None:
    """Return metadata filters as :meth:`~biorerank_plugins.PassageIndex.search` takes them.

    They hold as in LlamaIndex's own vector store: a missing key only meets ``!=``, ``nin`` and ``is_empty``; ``not``
    holds where none of its filters does. ``contains``, ``any`` and ``all`` look into lists; ``text_match`` and
    ``text_match_insensitive`` into strings, and hold for nothing else. A dot in a key goes one level down.

    :returns: ``None`` if there is nothing to filter by.
    :raises ValueError: if a filter cannot be expressed: its operator is not known, or does not take its value.
    """
    if filters is None or not filters.filters:
        return None
    translated = _all(filters)
    try:
        compile_filter(translated)  # now, and not at the first search
    except TypeError as error:
        raise ValueError(f"filters={filters!r:.200} cannot be used: {error}") from error
    return translated


def _all(filters: MetadataFilters) -> Filter:
    if not filters.filters:
        raise ValueError("A nested MetadataFilters holds no filter. Leave it out.")
    parts = [_all(part) if isinstance(part, MetadataFilters) else _one(part) for part in filters.filters]
    if filters.condition == FilterCondition.NOT:
        return {"$not": {"$or": parts}}
    return {"$or" if filters.condition == FilterCondition.OR else "$and": parts}


def _one(given: MetadataFilter) -> Filter:
    key, operator, value = given.key, given.operator, given.value
    if operator in _NEGATED:
        return {"$not": _one(MetadataFilter(key=key, value=value, operator=_NEGATED[operator]))}
    if operator == FilterOperator.IS_EMPTY:
        empty = {"empty": True}
        return {"title": empty, "metadata.title": empty} if key == "title" else {f"metadata.{key}": empty}
    if operator in _OF_LIST:
        return _of_list(given)
    if operator not in _OF_ONE_VALUE:
        raise _inexpressible(given)
    if isinstance(value, list) or value is None:
        raise ValueError(f"The filter on {key!r} with {operator.value!r} needs a string or a number, got {value!r}.")
    return _field(key, {_OF_ONE_VALUE[operator]: value})


def _of_list(given: MetadataFilter) -> Filter:
    key, operator, values = given.key, given.operator, given.value
    if not isinstance(values, list):
        raise ValueError(f"The filter on {key!r} with {operator.value!r} needs a list of values, got {values!r}.")
    if operator == FilterOperator.IN:
        return _field(key, {"in": values})
    if not values:
        raise ValueError(f"The filter on {key!r} with {operator.value!r} needs at least one value, got [].")
    return {"$or" if operator == FilterOperator.ANY else "$and": [_field(key, {"contains": one}) for one in values]}


def _field(key: str, condition: dict[str, Any]) -> Filter:
    in_metadata = {f"metadata.{key}": condition}
    # A title is a column of its own; an index that was built from nodes has it in the metadata, too.
    return (
        {"$or": [{"title": condition}, in_metadata]} if key == "title" and "contains" not in condition else in_metadata
    )


def _inexpressible(given: MetadataFilter) -> ValueError:
    known = (*_OF_ONE_VALUE, *_NEGATED, *_OF_LIST, FilterOperator.IS_EMPTY)
    return ValueError(
        f"The filter on {given.key!r} with {given.operator.value!r} cannot be expressed for a passage index. "
        f"Operators it knows: {', '.join(one.value for one in known)}."
    )
