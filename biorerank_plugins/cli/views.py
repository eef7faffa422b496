"""How results look: lists of passages and tables of measures."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from biorerank_plugins.cli.output import Column, Output, one_line

if TYPE_CHECKING:
    from biorerank_plugins.evaluation import EvaluationReport
    from biorerank_plugins.passages import Candidate, Passage, Ranking

Table = tuple[list[Column], list[list[object]]]

_SNIPPET = 280  # characters of a passage on a terminal: two or three lines; a pipe gets the whole text

_LABELS = {"RR": "MRR", "AP": "MAP", "R": "recall"}


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


def ranking_table(ranking: Ranking) -> Table:
    """Lay out a ranking; ``fused`` is what the order is by, ``moved`` compares it with the order of the input."""
    is_fused = any(r.fused is not None for r in ranking)
    numbers = ["rank", *(["fused"] if is_fused else []), "score", "moved"]
    columns = [*(Column(name, numeric=True) for name in numbers), Column("id"), Column("passage", wide=True)]
    rows: list[list[object]] = [
        [
            r.rank,
            *([f"{r.fused:.2f}"] if r.fused is not None else []),
            f"{r.score:.4f}",
            move(r.input_index + 1, r.rank),
            r.passage.id,
            passage_text(r.passage),
        ]
        for r in ranking
    ]
    return columns, rows


def candidates_table(candidates: Sequence[Candidate]) -> Table:
    """Lay out what the first stage found."""
    columns = [Column("rank", numeric=True), Column("score", numeric=True), Column("id"), Column("passage", wide=True)]
    rows: list[list[object]] = [
        [c.rank, "" if c.score is None else f"{c.score:.4f}", c.passage.id, passage_text(c.passage)] for c in candidates
    ]
    return columns, rows


def candidates_document(query: str, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Return what the first stage found as plain JSON types."""
    lines = [{"rank": c.rank, **c.passage.to_dict(), "score": c.score} for c in candidates]
    return {"query": query, "passages": lines}


def measure_label(name: str) -> str:
    """Return the usual name of a mean: the mean of ``RR@10`` is MRR@10.

    >>> measure_label("RR@10"), measure_label("R@100"), measure_label("nDCG@10")
    ('MRR@10', 'recall@100', 'nDCG@10')
    """
    measure, at, cutoff = name.partition("@")
    return f"{_LABELS.get(measure, measure)}{at}{cutoff}"


def report_table(report: EvaluationReport) -> Table:
    """Lay out the measures before and after reranking."""
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
        for name, c in report.comparisons.items()
    ]
    return columns, rows


def show_report(output: Output, report: EvaluationReport) -> None:
    """Write the measures before and after reranking, and what they cost."""
    output.table(*report_table(report))
    output.note(
        f"{report.n_queries} judged questions, {report.candidates} candidates each; first stage "
        f"{report.first_stage_ms_per_query:.1f} ms a question, reranking {report.rerank_pairs_per_second:.0f} pairs/s."
    )
    if report.n_unasked:
        output.warn(f"{report.n_unasked} judged questions have no text among the queries and count as 0.")
