"""The tables of a report, as texts; how they are marked up is for Markdown and HTML to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from biorerank_plugins.evaluation.lists import Latency
from biorerank_plugins.evaluation.metrics import measure_label
from biorerank_plugins.evaluation.results import Change, SystemsReport, TopPassage
from biorerank_plugins.evaluation.significance import P_VALUES, Comparison

_PASSAGE_LENGTH = 220  # characters of a passage: enough to see what it is about


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell."""

    text: str
    best: bool = False  # of its column
    numeric: bool = False  # set to the right


@dataclass(frozen=True, slots=True)
class Table:
    """A table."""

    title: str
    note: str  # what a reader must know about it
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def make_tables(report: SystemsReport, setup: Mapping[str, Any]) -> list[Table]:
    """Return the tables of a report that have rows."""
    tables = [_means(report), _significance(report), _other_measures(report), _depth(report), _latency(report)]
    tables += [
        _changes(name, kind, changes)
        for name, both in report.changes.items()
        for kind, changes in (("gains", both.gains), ("losses", both.losses))
    ]
    return [table for table in [*tables, _setup(setup)] if table.rows]


def _means(report: SystemsReport) -> Table:
    note = (
        f"Means over {len(report.queries)} judged questions, {report.candidates} candidates each; a question without "
        "results counts 0. The best value of each column is marked."
    )
    rows = [
        [Cell(name), *(_number(f"{system.measured.means[mean]:.4f}") for mean in report.means)]
        for name, system in report.systems.items()
    ]
    return Table("Measures", note, ["system", *map(measure_label, report.means)], _mark_best(rows))


def _significance(report: SystemsReport) -> Table:
    measure = report.measures[0]
    header = ["system", "difference", "95 % interval", "won/lost"]
    for test in ("sign flips", "bootstrap", "t-test"):
        header += [f"p, {test}", "Holm"]
    rows = [
        [
            Cell(name),
            _number(f"{one.delta:+.4f}"),
            _number(f"{one.low:+.4f} … {one.high:+.4f}"),
            _number(f"{one.wins}/{one.losses}"),
            *(_number(_p(value)) for kind in P_VALUES for value in (getattr(one, kind), one.holm[kind])),
        ]
        for name, one in ((name, by_measure[measure]) for name, by_measure in report.comparisons.items())
    ]
    note = (
        f"{measure_label(measure)} of each system minus that of {report.baseline}, question by question. p-values are "
        "two-sided; beside each stands the same value corrected by Holm's method for the number of systems compared."
    )
    return Table(f"Against {report.baseline}", note, header, rows)


def _other_measures(report: SystemsReport) -> Table:
    def said(one: Comparison) -> str:
        return f"{one.delta:+.4f} (p {_p(one.p_value)}, Holm {_p(one.holm['p_value'])})"

    others = report.measures[1:]
    rows = [
        [Cell(name), *(_number(said(by_measure[measure])) for measure in others)]
        for name, by_measure in report.comparisons.items()
    ]
    title = f"Other measures, against {report.baseline}"
    header = ["system", *(measure_label(measure) for measure in others)]
    return Table(title, "Difference, and p by sign flips.", header, rows if others else [])


def _depth(report: SystemsReport) -> Table:
    systems = {name: system for name, system in report.systems.items() if system.depth}
    depths = list(next(iter(systems.values())).depth) if systems else []
    rows = [[Cell(name), *(_number(f"{s.depth[n]:.4f}") for n in depths)] for name, s in systems.items()]
    note = (
        f"{measure_label(report.measures[0])} where only the first stage's best so many are handed over. They are the "
        "first of the longest list, and no pair is scored again."
    )
    return Table("Number of candidates", note, ["system", *map(str, depths)], _mark_best(rows))


def _latency(report: SystemsReport) -> Table:
    header = ["system", "search, median", "search, p95", "reranking, median", "reranking, p95", "pairs/s"]
    rows = [
        [
            Cell(name),
            *_milliseconds(system.first_stage_latency),
            *_milliseconds(system.rerank_latency),
            _number("" if system.pairs_per_second is None else f"{system.pairs_per_second:.0f}"),
        ]
        for name, system in report.systems.items()
        if system.first_stage_latency is not None
    ]
    note = (
        "Milliseconds a question, asked one at a time. A reranker scores the candidates of all first stages of a "
        "question together; the time is shared out by their number."
    )
    return Table("Speed", note, header, rows)


def _changes(name: str, kind: str, changes: Sequence[Change]) -> Table:
    header = ["question", "before", "after", "first passage before", "first passage after"]
    rows = [
        [
            Cell(f"{change.query} [{change.query_id}]"),
            _number(f"{change.baseline:.3f}"),
            _number(f"{change.value:.3f}"),
            Cell(_passage(change.before)),
            Cell(_passage(change.after)),
        ]
        for change in changes
    ]
    return Table(f"Largest {kind} of {name}", "", header, rows)


def _setup(setup: Mapping[str, Any]) -> Table:
    flat: dict[str, str] = {}
    for key, value in setup.items():
        if isinstance(value, Mapping):
            flat |= {f"{key} {name}": _said(inner) for name, inner in value.items()}
        else:
            flat[key] = " ".join(value) if isinstance(value, list) else _said(value)
    rows = [[Cell(key), Cell(value)] for key, value in flat.items() if value]
    return Table("How it was made", "", ["what", "value"], rows)


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {inner}" for key, inner in value.items() if inner is not None)
    return "" if value is None else str(value)


def _mark_best(rows: Sequence[Sequence[Cell]]) -> list[list[Cell]]:
    """Mark the largest number of each column but the first; equal as shown is equally good."""
    best = [max(cells, key=lambda cell: float(cell.text)).text for cells in list(zip(*rows, strict=True))[1:]]
    if len(rows) < 2:
        return [list(row) for row in rows]
    return [
        [row[0], *(Cell(c.text, c.text == top, numeric=True) for c, top in zip(row[1:], best, strict=True))]
        for row in rows
    ]


def _number(text: str) -> Cell:
    return Cell(text, numeric=True)


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def _milliseconds(latency: Latency | None) -> tuple[Cell, Cell]:
    if latency is None:
        return _number(""), _number("")
    return _number(f"{latency.median_ms:.1f}"), _number(f"{latency.p95_ms:.1f}")


def _passage(top: TopPassage | None) -> str:
    if top is None:
        return "(nothing found)"
    text = top.text if len(top.text) <= _PASSAGE_LENGTH else f"{top.text[:_PASSAGE_LENGTH].rstrip()}…"
    grade = f"relevant, grade {top.grade}" if top.grade > 0 else "not judged relevant"
    return f"{text} [{top.id}, {grade}]".strip()
