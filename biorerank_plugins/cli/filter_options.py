"""``--filter "year>=2015"``: conditions as one types them, turned into the index's filter language."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from biorerank_plugins.cli.one_line_errors import usage_error

Filter = Annotated[list[str] | None, typer.Option(metavar="CONDITION", help="As year>=2015; may be given repeatedly.")]

_CONDITION = re.compile(r"\s*(?P<key>[^=!<>~]+?)\s*(?P<operator>>=|<=|!=|==|=|>|<|~)\s*(?P<value>.*?)\s*", re.DOTALL)
_NAMES = {"=": "==", "~": "contains"}


def parse_filters(texts: Sequence[str]) -> dict[str, Any] | None:
    """Turn conditions into one filter; all of them must hold.

    A value is JSON where it can be read as JSON (a number, ``true``, ``"in quotes"``, ``["a", "b"]``), else a string.
    ``pmid=23185200`` finds the number and the string, since it is hard to know which of them a collection holds; order
    is compared among numbers, or, with a value in quotes, among strings. ``~`` looks into a list.

    >>> parse_filters(["year>=2015", "journal=BMJ"])
    {'$and': [{'year': {'>=': 2015}}, {'journal': {'==': 'BMJ'}}]}
    """
    filters = [_checked(text) for text in texts]
    if not filters:
        return None
    return filters[0] if len(filters) == 1 else {"$and": filters}


def _checked(text: str) -> dict[str, Any]:
    """Parse a condition and let the index's language judge it, so that nothing is loaded for one that cannot be."""
    from biorerank_plugins.first_stage.filters import compile_filter

    condition = _parse(text)
    try:
        compile_filter(condition)
    except (TypeError, ValueError) as error:
        usage_error(f"--filter {text!r:.80}: {error}")
    return condition


def _parse(text: str) -> dict[str, Any]:
    match = _CONDITION.fullmatch(text)
    if match is None or not match["value"]:
        usage_error(
            f"--filter {text!r} is no condition: expected KEY, one of = != >= <= > < ~, and a value, as 'year>=2015'."
        )
    key, operator = match["key"], _NAMES.get(match["operator"], match["operator"])
    value = _value(match["value"])
    if operator in ("==", "!="):
        membership = "in" if operator == "==" else "not in"
        if isinstance(value, list):
            return {key: {operator: value[0]} if len(value) == 1 else {membership: value}}
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return {key: {membership: [value, match["value"]]}}
    return {key: {operator: value}}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # no JSON, or none that Python takes: an integer of thousands of digits
        return text
