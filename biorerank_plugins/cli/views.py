"""How results look: lists of passages and tables of measures."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from biorerank_plugins.cli.output import Column, Output, one_line

if TYPE_CHECKING:
    from biorerank_plugins.evaluation import SystemsReport
    from biorerank_plugins.first_stage.protocol import FoundCandidates
    from biorerank_plugins.passages import Candidate, Passage, RankedPassage, Ranking

Table = tuple[list[Column], list[list[object]]]

_SNIPPET = 280  # characters of a passage on a terminal: two or three lines; a pipe gets the whole text


def move(before: int, after: int) -> str:
    """Say how a passage moved between two lists, by its ranks counted from 1.

    >>> move(5, 1), move(1, 3), move(2, 2)
    ('↑4', '↓2', '=')
    """
    if before == after:
        return "="
    return f"↑{before - after}" if before > after else f"↓{after - before}"


def passage_text(passage: Passage) -> str:
    """Title and text of a passage on one line, cut on a terminal only."""
    text = one_line(f"{passage.title}: {passage.text}" if passage.title else passage.text)
    if sys.stdout.isatty() and len(text) > _SNIPPET:
        return f"{text[:_SNIPPET].rstrip()}…"
    return text


def ranking_table(ranking: Ranking, *, is_boosted: bool = False) -> Table:
    """Lay out a ranking; ``fused`` and ``boost`` are what the order is by, ``moved`` compares it with the input's."""
    is_fused = any(r.fused is not None for r in ranking)
    numbers = ["rank", *(["fused"] if is_fused else []), *(["boost"] if is_boosted else []), "score", "moved"]
    columns = [*(Column(name, numeric=True) for name in numbers), Column("id"), Column("passage", wide=True)]
    rows: list[list[object]] = [
        [
            r.rank,
            *([f"{r.fused:.2f}"] if r.fused is not None else []),
            *([f"{r.boost:+.2f}"] if is_boosted else []),
            f"{r.score:.4f}",
            move(r.input_index + 1, r.rank),
            r.passage.id,
            ("[retracted] " if r.retracted else "") + (evidence_text(r) if r.evidence else passage_text(r.passage)),
        ]
        for r in ranking
    ]
    return columns, rows


def tell_retracted(output: Output, ranking: Mapping[str, Any]) -> None:
    """Say which retracted articles were left out, if any.

    :param ranking: as JSON.
    """
    pairs = zip(ranking.get("dropped", ()), ranking.get("drop_reasons", ()), strict=True)
    if ids := [id_ for id_, reason in pairs if reason == "retracted"]:
        output.note(f"Retracted, so left out: {', '.join(ids)}.")


def tell_missing(output: Output, ranking: Mapping[str, Any]) -> None:
    """Say which shards of the index did not answer, if any.

    :param ranking: as JSON.
    """
    if missing := ranking.get("missing_shards"):
        output.warn(f"The result is partial: {', '.join(missing)} of the index did not answer.")


def evidence_text(ranked: RankedPassage) -> str:
    """The best sentences of a passage, in the order of the text."""
    in_order = sorted(ranked.evidence, key=lambda sentence: sentence.start)
    return one_line(" … ".join(sentence.text for sentence in in_order))


def candidates_table(candidates: Sequence[Candidate]) -> Table:
    """Lay out what the first stage found."""
    columns = [Column("rank", numeric=True), Column("score", numeric=True), Column("id"), Column("passage", wide=True)]
    rows: list[list[object]] = [
        [c.rank, "" if c.score is None else f"{c.score:.4f}", c.passage.id, passage_text(c.passage)] for c in candidates
    ]
    return columns, rows


def candidates_document(query: str, candidates: FoundCandidates) -> dict[str, Any]:
    """Return what the first stage found as plain JSON types."""
    lines = [{"rank": c.rank, **c.passage.to_dict(), "score": c.score} for c in candidates]
    missing = candidates.missing_shards
    return {"query": query, "passages": lines, **({"missing_shards": list(missing)} if missing else {})}


def systems_table(report: SystemsReport) -> Table:
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


def bioasq_table(report: SystemsReport) -> Table:
    """Lay out BioASQ's own measures; empty if they were not asked for."""
    names = [name for name in report.means if " " in name]
    columns = [Column("system"), *(Column(name.removeprefix("BioASQ "), numeric=True) for name in names)]
    rows: list[list[object]] = [
        [name, *(f"{system.measured.means[measure]:.4f}" for measure in names)]
        for name, system in report.systems.items()
    ]
    return columns, rows if names else []


def show_systems(output: Output, report: SystemsReport) -> None:
    """Write what several systems are worth, and what they cost."""
    from biorerank_plugins.evaluation.metrics import measure_label

    output.table(*systems_table(report))
    if report.gold_method is not None:
        output.table(*bioasq_table(report))
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
