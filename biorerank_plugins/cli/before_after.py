"""How measures look: before and after reranking, where a report is of one reranker, or of all systems side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from biorerank_plugins.cli.output import Column, Output
from biorerank_plugins.cli.views import Table

if TYPE_CHECKING:
    from biorerank_plugins.evaluation import Comparison, SystemResult, SystemsReport


def reranked_by(report: SystemsReport) -> SystemResult:
    """Return the system that a user's search is: with the first stage's scores, where a weight is stored for them."""
    return list(report.systems.values())[-1]


def comparisons_of(report: SystemsReport) -> Mapping[str, Comparison]:
    """Return each measure, reranked against the first stage; it is one comparison, so nothing is corrected."""
    return {name: replace(one, holm={}) for name, one in report.comparisons[reranked_by(report).name].items()}


def before_after_table(comparisons: Mapping[str, Comparison]) -> Table:
    """Lay out the measures before and after reranking."""
    from biorerank_plugins.evaluation.metrics import measure_label

    names = ["first stage", "reranked", "change", "95 % interval", "p", "won/lost"]
    columns = [Column("measure"), *(Column(name, numeric=True) for name in names)]
    rows: list[list[object]] = [
        [
            measure_label(name),
            f"{c.baseline:.4f}",
            f"{c.value:.4f}",
            f"{c.delta:+.4f}",
            f"{c.low:+.3f} … {c.high:+.3f}",
            f"{c.p_value:.4f}",
            f"{c.wins}/{c.losses}",
        ]
        for name, c in comparisons.items()
    ]
    return columns, rows


def show_before_after(output: Output, report: SystemsReport) -> None:
    """Write the measures before and after reranking, and what they cost."""
    output.table(*before_after_table(comparisons_of(report)))
    costs = _costs(report)
    output.note(
        f"{len(report.queries)} judged questions, {report.candidates} candidates each; first stage "
        f"{costs['first_stage_ms_per_query']:.1f} ms a question, "
        f"reranking {costs['rerank_pairs_per_second']:.0f} pairs/s."
    )
    for note in report.notes:
        output.warn(note)


def before_after_document(report: SystemsReport, *, per_query: bool = True) -> dict[str, Any]:
    """Return the measures before and after reranking, by question too, and what they cost, as plain JSON types."""
    from biorerank_plugins.evaluation.significance import METHOD

    before, after = report.systems[report.baseline].measured, reranked_by(report).measured
    return {
        "queries": len(report.queries),
        "queries_without_text": report.n_unasked,
        "candidates": report.candidates,
        "pairs": _pairs(report),
        "measures": {name: one.to_dict() for name, one in comparisons_of(report).items()},
        "method": METHOD,
        **_costs(report),
        "per_query": {
            name: {id_: {"first_stage": value, "reranked": after.per_query[name][id_]} for id_, value in values.items()}
            for name, values in before.per_query.items()
        }
        if per_query
        else {},
    }


def _costs(report: SystemsReport) -> dict[str, float]:
    system = reranked_by(report)
    milliseconds = 0.0 if system.first_stage_latency is None else system.first_stage_latency.mean_ms
    rate = system.pairs_per_second or 0.0
    return {
        "first_stage_seconds": milliseconds * len(system.order) / 1000,
        "first_stage_ms_per_query": milliseconds,
        "rerank_seconds": _pairs(report) / rate if rate else 0.0,
        "rerank_pairs_per_second": rate,
    }


def _pairs(report: SystemsReport) -> int:
    return sum(map(len, reranked_by(report).order.values()))


def show_systems(output: Output, report: SystemsReport) -> None:
    """Write what several systems are worth, and what they cost."""
    from biorerank_plugins.evaluation.metrics import measure_label

    output.table(*_systems_table(report))
    if report.gold_method is not None:
        output.table(*_bioasq_table(report))
        output.note(report.gold_method)
    output.note(
        f"{len(report.queries)} judged questions, {report.candidates} candidates each; change, interval and p are of "
        f"{measure_label(report.measures[0])} against {report.baseline}."
    )
    for name, system in report.systems.items():
        costs = [
            f"{kind} {latency.median_ms:.1f} ms (p95 {latency.p95_ms:.1f})"
            for kind, latency in (("search", system.first_stage_latency), ("reranking", system.rerank_latency))
            if latency is not None
        ]
        if costs and system.fusion is None:  # fusion costs nothing
            output.note(f"{name}: {', '.join(costs)} a question.")
    for note in report.notes:
        output.warn(note)


def _systems_table(report: SystemsReport) -> Table:
    """Lay out several systems: their measures, and the first one against the baseline."""
    from biorerank_plugins.evaluation.metrics import measure_label

    first = report.measures[0]
    shown = [name for name in report.measures if " " not in name]  # BioASQ's have a table of their own
    names = [*map(measure_label, shown), "change", "95 % interval", "p", "p (Holm)", "won/lost"]
    columns = [Column("system"), *(Column(name, numeric=True) for name in names)]
    rows: list[list[object]] = []
    for name, system in report.systems.items():
        values: list[object] = [f"{system.measured.means[measure]:.4f}" for measure in shown]
        if name == report.baseline:
            rows.append([f"{name} (baseline)", *values, "", "", "", "", ""])
            continue
        one = report.comparisons[name][first]
        interval = f"{one.low:+.3f} … {one.high:+.3f}"
        p_values = [f"{one.p_value:.4f}", f"{one.holm['p_value']:.4f}"]
        rows.append([name, *values, f"{one.delta:+.4f}", interval, *p_values, f"{one.wins}/{one.losses}"])
    return columns, rows


def _bioasq_table(report: SystemsReport) -> Table:
    names = [name for name in report.means if " " in name]
    columns = [Column("system"), *(Column(name.removeprefix("BioASQ "), numeric=True) for name in names)]
    rows: list[list[object]] = [
        [name, *(f"{system.measured.means[measure]:.4f}" for measure in names)]
        for name, system in report.systems.items()
    ]
    return columns, rows
