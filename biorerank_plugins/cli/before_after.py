"""One reranker over one first stage: what it makes of the measures, from a report of systems."""

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
    """Return the measures before and after reranking, and what they cost, as plain JSON types.

    :param report: of one reranker over one first stage.
    :param per_query: also list the values of every question.
    """
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
