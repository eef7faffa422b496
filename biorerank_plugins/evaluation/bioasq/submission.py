"""What was handed in to BioASQ Task B, phase A, against the golden files: documents and snippets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.evaluation.bioasq.gold import BioASQGold, read_answers
from biorerank_plugins.evaluation.bioasq.measured import all_measured, merged_spans, spans_measured, texts_measured
from biorerank_plugins.evaluation.bioasq.measures import TOP, document_measures
from biorerank_plugins.evaluation.metrics import MeasuredRun


@dataclass(frozen=True, slots=True)
class MeasuredSubmission:
    """What a submission is worth.

    :param run: means and every question's values, by names such as ``"documents AP"``; the means also hold the
        geometric ones (GMAP).
    :param questions: how many were asked.
    :param method: how snippets were compared, in words.
    :param doubts: what looks wrong, one sentence each.
    """

    run: MeasuredRun
    questions: int
    method: str
    doubts: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the values as plain JSON types."""
        return {
            "questions": self.questions,
            "method": self.method,
            "means": dict(self.run.means),
            "per_query": {name: dict(values) for name, values in self.run.per_query.items()},
        }


def read_submission(*paths: Path, is_gold: bool = False) -> BioASQGold:
    """Read a submission, or golden files, compressed or not.

    :param paths: ``{"questions": [{"id", "documents", "snippets"}, …]}``, or such a question a line. A question that
        stands in several files is one.
    :param is_gold: of a question that lists no documents those of its snippets count.
    :raises ReaderError: if a file cannot be read, none holds documents or snippets, or two differ in a question.
    """
    read = read_answers(paths, documents_of_snippets=is_gold)
    names = ", ".join(map(str, paths))
    if not any(read.documents.values()) and not any(read.snippets.values()):
        raise ReaderError("No question has documents or snippets, so there is nothing to score.", names)
    return read


def measure_submission(submission: BioASQGold, gold: BioASQGold) -> MeasuredSubmission:
    """Measure documents and snippets as BioASQ does; see :mod:`biorerank_plugins.evaluation.bioasq.measures`.

    Means are over all questions that have gold documents, or gold snippets; one that was not answered counts 0. Of each
    kind the first ten count.

    :raises ValueError: if the two have no question in common.

    Example::

        gold = read_submission(Path("13B1_golden.json"), is_gold=True)
        measure_submission(read_submission(Path("submission.json")), gold).run.means["snippets F1"]
    """
    answered = submission.documents.keys() | submission.snippets.keys()
    asked = [name for name in gold.documents if gold.documents[name] or gold.snippets.get(name)]
    if not answered & set(asked):
        raise ValueError(
            f"Submission and gold have no question in common; the submission has for example {min(answered)}, "
            f"the gold {min(asked, default='none')}."
        )
    handed_in = [one for name in asked for one in submission.snippets.get(name, ())]
    by_place = gold.has_offsets and all(one.span is not None for one in handed_in)
    measured: dict[str, dict[str, Mapping[str, float]]] = {"documents": {}, "snippets": {}}
    for name in asked:
        if wanted := gold.documents[name]:
            measured["documents"][name] = document_measures(submission.documents.get(name, ()), wanted)
        if snippets := gold.snippets.get(name):
            found = submission.snippets.get(name, ())[:TOP]
            if by_place:
                measured["snippets"][name] = spans_measured(merged_spans(found), merged_spans(snippets))
            else:
                measured["snippets"][name] = texts_measured([(one.document, one.text) for one in found], snippets)
    method = (
        gold.method if by_place or not gold.has_offsets else "Snippets without offsets are compared by their texts."
    )
    return MeasuredSubmission(all_measured(measured), len(asked), method, tuple(_doubts(answered, asked)))


def _doubts(answered: set[str], asked: Sequence[str]) -> Iterator[str]:
    if missing := [name for name in asked if name not in answered]:
        yield f"{len(missing)} of {len(asked)} questions are not answered, such as {missing[0]}; they count 0."
    if unknown := sorted(answered - set(asked)):
        yield f"{len(unknown)} questions of the submission have no gold answers, such as {unknown[0]}."
