"""Question by question: who wins, who loses, and a table of every value."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path

from biorerank_plugins._common.files import write_whole
from biorerank_plugins.evaluation.metrics import Qrels
from biorerank_plugins.evaluation.results import Change, Changes, SystemResult, SystemsReport, TopPassage
from biorerank_plugins.passages import Passage

LARGEST = 10
"""Gains, and losses, that are listed."""


def largest_changes(
    baseline: SystemResult,
    system: SystemResult,
    measure: str,
    queries: Mapping[str, str],
    qrels: Qrels,
    find: Callable[[str], Passage | None],
) -> Changes:
    """Return the questions that a system changes most by one measure.

    :param queries: texts of the questions.
    :param find: gives the passage of an id, ``None`` if it is not known.
    """
    before, after = baseline.measured.per_query[measure], system.measured.per_query[measure]

    def top(result: SystemResult, query_id: str) -> TopPassage | None:
        ids = result.order.get(query_id)
        if not ids:
            return None
        passage = find(ids[0])
        text = "" if passage is None else ". ".join(part for part in (passage.title, passage.text) if part)
        return TopPassage(ids[0], text, qrels[query_id].get(ids[0], 0))

    def change(id_: str) -> Change:
        return Change(id_, queries[id_], before[id_], after[id_], top(baseline, id_), top(system, id_))

    by_delta = sorted(before, key=lambda query_id: after[query_id] - before[query_id])
    losses = [query_id for query_id in by_delta if after[query_id] < before[query_id]][:LARGEST]
    gains = [query_id for query_id in reversed(by_delta) if after[query_id] > before[query_id]][:LARGEST]
    return Changes([*map(change, gains)], [*map(change, losses)])


def write_per_query(report: SystemsReport, path: str | Path) -> None:
    """Write the value of every question under every system and measure as CSV (UTF-8, with a heading line).

    :param path: where to write; the file is moved there when it is complete.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["query_id", "query", "system", *report.measures])
    for query_id, question in report.queries.items():
        for name, system in report.systems.items():
            # Not every question has a value of every measure: BioASQ's are for questions with gold answers.
            values = [system.measured.per_query[measure].get(query_id, "") for measure in report.measures]
            writer.writerow([query_id, question, name, *values])
    write_whole(Path(path), text.getvalue().encode("utf-8"))
