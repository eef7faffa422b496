"""What an evaluation of several systems found, and question by question: who wins, who loses, every value."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from biorerank_plugins._common.files import write_whole
from biorerank_plugins.evaluation.lists import Latency, System
from biorerank_plugins.evaluation.metrics import MeasuredRun, Qrels
from biorerank_plugins.evaluation.significance import METHOD, Comparison
from biorerank_plugins.passages import Passage

LARGEST = 10
"""Gains, and losses, that are listed."""


@dataclass(frozen=True, slots=True)
class TopPassage:
    """The passage that a system puts first."""

    id: str
    text: str  # with the title; "" if the passage is not known (a run file names ids only)
    grade: int  # 0 if it is not judged


@dataclass(frozen=True, slots=True)
class Change:
    """What one question gains or loses by a system, and what is first before and after (``None``: nothing is found)."""

    query_id: str
    query: str
    baseline: float
    value: float
    before: TopPassage | None
    after: TopPassage | None

    @property
    def delta(self) -> float:
        """``value - baseline``."""
        return self.value - self.baseline


@dataclass(frozen=True, slots=True)
class Changes:
    """The questions that a system changes most, against the baseline; the largest gain, and loss, is first."""

    gains: Sequence[Change]
    losses: Sequence[Change]

    def to_dict(self) -> dict[str, Any]:
        """Return the changes as plain JSON types."""
        return {
            name: [{**asdict(change), "delta": change.delta} for change in changes]
            for name, changes in (("gains", self.gains), ("losses", self.losses))
        }


@dataclass(frozen=True, slots=True)
class SystemResult(System):
    """One system: a first stage, a first stage with a reranker, or a run file.

    :param name: its name in the report.
    :param first_stage: ``"dense"``, ``"lexical"`` or ``"hybrid"``; ``None`` for a run file.
    :param reranker: name of the reranker, ``None`` without one.
    :param fusion: weight of the first stage's scores in the order; ``None``: by the reranker's logit alone.
    :param order: for each question the ids of its passages, best first.
    :param measured: means, and the value of every judged question.
    :param intervals: for each measure, the 95 % confidence interval of the mean (bootstrap over questions).
    :param depth: mean of the first measure by number of candidates; empty for a run file.
    :param first_stage_latency: what the search of one question takes.
    :param rerank_latency: what reranking one question takes.
    :param pairs_per_second: pairs that the reranker scores in a second.
    """

    order: Mapping[str, Sequence[str]]
    measured: MeasuredRun
    intervals: Mapping[str, tuple[float, float]]
    depth: Mapping[int, float] = field(default_factory=dict)
    first_stage_latency: Latency | None = None
    rerank_latency: Latency | None = None
    pairs_per_second: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON types, without lists and values by question."""
        return {
            "first_stage": self.first_stage,
            "reranker": self.reranker,
            "fusion": self.fusion,
            "means": dict(self.measured.means),
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "depth": {str(candidates): value for candidates, value in self.depth.items()},
            "first_stage_latency": None if self.first_stage_latency is None else asdict(self.first_stage_latency),
            "rerank_latency": None if self.rerank_latency is None else asdict(self.rerank_latency),
            "pairs_per_second": self.pairs_per_second,
        }


@dataclass(frozen=True, slots=True)
class SystemsReport:
    """What :func:`~biorerank_plugins.evaluation.evaluate_systems` found.

    :param queries: every judged question, id and text (``""`` where it has none, so that it counts as 0).
    :param candidates: passages that each first stage hands over.
    :param measures: names of what was measured; the first one is that of curves and changes.
    :param systems: results by name, in the order asked for.
    :param baseline: name of the system that the others are compared with.
    :param comparisons: for each other system and each measure, the comparison; p-values also as corrected by Holm's
        method for the number of systems compared.
    :param changes: for each other system, the questions that changed most.
    :param notes: what may be wrong with the data.
    :param gold_method: how BioASQ's snippets were compared, ``None`` if its measures were not asked for.
    """

    queries: Mapping[str, str]
    candidates: int
    measures: Sequence[str]
    systems: Mapping[str, SystemResult]
    baseline: str
    comparisons: Mapping[str, Mapping[str, Comparison]]
    changes: Mapping[str, Changes]
    notes: Sequence[str] = ()
    gold_method: str | None = None

    @property
    def n_unasked(self) -> int:
        """How many judged questions have no text."""
        return sum(not text for text in self.queries.values())

    @property
    def means(self) -> Sequence[str]:
        """Names of all means: the measures, and means that no question has a value of (BioASQ's GMAP)."""
        return list(next(iter(self.systems.values())).measured.means)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON types, without the lists."""
        return {
            "queries": len(self.queries),
            "queries_without_text": self.n_unasked,
            "candidates": self.candidates,
            "baseline": self.baseline,
            "systems": {name: system.to_dict() for name, system in self.systems.items()},
            "comparisons": {
                name: {measure: one.to_dict() for measure, one in by_measure.items()}
                for name, by_measure in self.comparisons.items()
            },
            "method": METHOD,
            "notes": list(self.notes),
            "bioasq_method": self.gold_method,
            "changes": {name: changes.to_dict() for name, changes in self.changes.items()},
            "per_query": {
                name: {measure: dict(values) for measure, values in system.measured.per_query.items()}
                for name, system in self.systems.items()
            },
            "questions": dict(self.queries),
        }


def largest_changes(
    baseline: SystemResult,
    system: SystemResult,
    measure: str,
    queries: Mapping[str, str],
    qrels: Qrels,
    find: Callable[[str], Passage | None],
) -> Changes:
    """Return the questions that a system changes most by one measure; ``find`` gives the passage of an id."""
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
    """Write the value of every question under every system and measure as CSV (UTF-8, with a heading line)."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["query_id", "query", "system", *report.measures])
    for query_id, question in report.queries.items():
        for name, system in report.systems.items():
            # Not every question has a value of every measure: BioASQ's are for questions with gold answers.
            values = [system.measured.per_query[measure].get(query_id, "") for measure in report.measures]
            writer.writerow([query_id, question, name, *values])
    write_whole(Path(path), text.getvalue().encode("utf-8"))
