"""Checks of what callers of the first stage pass in."""

from __future__ import annotations

from collections.abc import Iterable

from biorerank_plugins.checks import check_query, string

__all__ = ["check_ids", "check_length", "check_queries"]


def check_queries(queries: Iterable[str]) -> list[str]:
    """Return queries as a list; each of them says something.

    :raises TypeError: if ``queries`` is one string, or holds something else than strings.
    :raises ValueError: if a query is blank.
    """
    if isinstance(queries, (str, bytes)):
        raise TypeError(f"Expected a list of queries, got one {type(queries).__name__}: {queries!r:.80}.")
    return [check_query(query) for query in queries]


def check_ids(ids: Iterable[str]) -> list[str]:
    """Return ids as a list, each of them once.

    :raises TypeError: if ``ids`` is one string, or holds something else than strings.
    """
    if isinstance(ids, (str, bytes)):
        raise TypeError(f"Expected a list of ids, got one {type(ids).__name__}: {ids!r:.80}. Put it in a list.")
    return list(dict.fromkeys(string("An id", id_) for id_ in ids))


def check_length(max_length: int, least: int, longest: int) -> int:
    """Return a number of tokens that a model can read.

    :raises ValueError: if it cannot; the message says what is possible.
    """
    if isinstance(max_length, bool) or not isinstance(max_length, int) or not least <= max_length <= longest:
        raise ValueError(f"max_length={max_length!r} is not possible: this model reads {least} to {longest} tokens.")
    return max_length
