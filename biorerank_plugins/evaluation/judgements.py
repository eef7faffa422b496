"""Judgements and questions: which belong together, and what is suspicious, before an hour of scoring is spent."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping

from biorerank_plugins.readers import Query

_NAMED = 3


def judged_queries(queries: Iterable[Query], judged: set[str]) -> list[Query]:
    """Return the questions that have judgements, in their order.

    :raises ValueError: if an id occurs twice, or no question has judgements.
    """
    by_id: dict[str, Query] = {}
    for query in queries:
        if query.id in by_id:
            raise ValueError(f"The query id {query.id!r} occurs twice; ids must be unique.")
        by_id[query.id] = query
    asked = [query for query_id, query in by_id.items() if query_id in judged]
    if not asked:
        raise ValueError(
            f"None of the {len(by_id)} queries has a judgement: do the queries and the qrels belong together? "
            f"Judged are for example {', '.join(sorted(judged)[:_NAMED])}."
        )
    return asked


def doubts(
    qrels: Mapping[str, Mapping[str, int]],
    *,
    asked: Collection[str] | None = None,
    collection: Container[str] | None = None,
) -> list[str]:
    """Return what looks wrong, one sentence each; nothing for judgements that fit.

    :param qrels: question id ► passage id ► grade; a grade above 0 is relevant.
    :param asked: the questions that are asked; ``None`` for all.
    :param collection: knows which passages there are; ``None`` if that is not known.

    >>> doubts({"q1": {"p1": 1, "p2": 1}}, collection={"p1"})
    ['1 of 2 relevant passages are not in the collection, such as p2; they count as not found.']
    """
    names = [name for name in qrels if qrels[name] and (asked is None or name in asked)]
    relevant = {name: [passage for passage, grade in qrels[name].items() if grade > 0] for name in names}
    without = [name for name in names if not relevant[name]]
    if names and len(without) == len(names):
        return [
            f"No passage is judged relevant: all {sum(len(qrels[name]) for name in names)} grades are 0 or less, so "
            "there is nothing to find."
        ]
    found = []
    if without:
        found.append(
            f"{len(without)} of {len(names)} judged questions have no passage with a grade above 0, such as "
            f"{', '.join(without[:_NAMED])}; there is nothing to find for them."
        )
    if collection is not None:
        wanted = dict.fromkeys(passage for passages in relevant.values() for passage in passages)
        missing = [passage for passage in wanted if passage not in collection]
        if missing:
            found.append(
                f"{len(missing)} of {len(wanted)} relevant passages are not in the collection, such as "
                f"{', '.join(missing[:_NAMED])}; they count as not found."
            )
    return found
