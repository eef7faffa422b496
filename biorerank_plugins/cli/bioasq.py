"""BioASQ submissions: ``search --bioasq FILE`` writes one, ``evaluate --submission FILE`` scores one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from biorerank_plugins.cli.inputs import STDIN
from biorerank_plugins.cli.one_line_errors import usage_error
from biorerank_plugins.cli.output import Column, Output

if TYPE_CHECKING:
    from biorerank_plugins.passages import Ranking
    from biorerank_plugins.readers import Query
    from biorerank_plugins.reranking.reranker import BioReranker

SNIPPETS = 10
"""Snippets of a question, all of which may stand in one document."""


def write_bioasq(
    target: Path,
    questions: list[Query],
    rankings: Iterable[Ranking],
    reranker: BioReranker,
    source: Path | None,
    output: Output,
) -> None:
    """Write the submission, and tell what is in it and what is not."""
    from biorerank_plugins.evaluation.bioasq.export import bioasq_submission, question_types

    types = question_types(source) if source is not None and source != STDIN else {}
    made = bioasq_submission(
        zip(questions, rankings, strict=True), score=reranker.score, types=types, metadata_keys=reranker.metadata_keys
    )
    made.write(target)
    counts = {
        "questions": len(made.questions),
        "documents": sum(len(question["documents"]) for question in made.questions),
        "snippets": sum(len(question["snippets"]) for question in made.questions),
    }
    left_out = {"without_pmid": len(made.without_pmid), "out_of_place": len(made.out_of_place)}
    output.document({"file": str(target), **counts, **left_out})
    output.note(f"{target}: " + ", ".join(f"{number} {what}" for what, number in counts.items()) + ".")
    if made.without_pmid:
        output.warn(
            f"{len(made.without_pmid)} passages have no PMID and were left out, such as {made.without_pmid[0]}."
        )
    if made.out_of_place:
        output.warn(
            f"{len(made.out_of_place)} passages gave no snippets, such as {made.out_of_place[0]}: another text claims "
            "the same place of the same article. Passages that are parts of an abstract must say in their metadata, "
            "under 'offset', where in it they begin."
        )


def score_submission(submission: Path, gold: Sequence[Path], has_others: bool, output: Output) -> None:
    """Show what a submission is worth by BioASQ's measures of documents and snippets."""
    if not gold or has_others:
        usage_error("--submission is scored against --bioasq GOLD, and takes no other input.")
    from biorerank_plugins.evaluation.bioasq.measured import measure_submission, read_submission

    measured = measure_submission(read_submission(submission), read_submission(*gold, is_gold=True))
    for doubt in measured.doubts:
        output.warn(doubt)
    if output.json:
        output.document(measured.to_dict())
        return
    columns = [Column("measure"), Column("value", numeric=True)]
    output.table(columns, [(name, f"{value:.4f}") for name, value in measured.run.means.items()])
    output.note(f"{measured.questions:,} questions. {measured.method}")
