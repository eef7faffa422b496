"""Lists of passages, and what was handed in to Task B, phase A, measured against BioASQ's gold answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.evaluation.bioasq.gold import BioASQGold, GoldSnippet, document_of, named_document, read_answers
from biorerank_plugins.evaluation.bioasq.measures import (
    MEASURES,
    TOP,
    Span,
    document_measures,
    geometric_mean,
    merge_spans,
    merge_texts,
    snippet_measures,
    span_overlaps,
    text_key,
    text_overlaps,
)
from biorerank_plugins.evaluation.metrics import MeasuredRun
from biorerank_plugins.passages import Passage

_DOCUMENTS, _SNIPPETS = "BioASQ documents", "BioASQ snippets"

Find = Callable[[str], Passage | None]


def measure_bioasq(
    orders: Mapping[str, Sequence[str]], gold: BioASQGold, find: Find, asked: Iterable[str]
) -> MeasuredRun:
    """Measure lists of passages as BioASQ does; see :mod:`biorerank_plugins.evaluation.bioasq.measures`.

    Snippets are the first ten passages, documents the first ten articles that the list names.

    :param orders: for each question passage ids, best first; a question without a list counts as 0.
    :param gold: gold answers.
    :param find: gives the passage of an id, ``None`` if it is not known.
    :param asked: the questions that count; those without gold snippets are left out.
    :returns: ``"BioASQ documents F1"`` and so on; the means also hold the geometric ones (GMAP).
    """
    measured: dict[str, dict[str, Mapping[str, float]]] = {_DOCUMENTS: {}, _SNIPPETS: {}}
    by_place = gold.has_offsets
    for name in asked:
        if snippets := gold.snippets.get(name):
            passages = [passage for id_ in orders.get(name, ()) if (passage := find(id_)) is not None]
            measured[_DOCUMENTS][name] = document_measures([document_of(p) for p in passages], gold.documents[name])
            found = _as_snippets(passages[:TOP], gold, _merged_spans(snippets))
            measured[_SNIPPETS][name] = _measure_snippets(found, snippets, by_place)
    return _all_measured(measured)


@dataclass(frozen=True, slots=True)
class MeasuredSubmission:
    """What a submission is worth."""

    run: MeasuredRun  # by names such as "documents AP"; the means also hold the geometric ones (GMAP)
    questions: int  # that were asked
    method: str  # how snippets were compared, in words
    doubts: tuple[str, ...]  # what looks wrong, one sentence each

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
            measured["snippets"][name] = _measure_snippets(found, snippets, by_place)
    method = (
        gold.method if by_place or not gold.has_offsets else "Snippets without offsets are compared by their texts."
    )
    return MeasuredSubmission(_all_measured(measured), len(asked), method, tuple(_doubts(answered, asked)))


def _doubts(answered: set[str], asked: Sequence[str]) -> Iterator[str]:
    if missing := [name for name in asked if name not in answered]:
        yield f"{len(missing)} of {len(asked)} questions are not answered, such as {missing[0]}; they count 0."
    if unknown := sorted(answered - set(asked)):
        yield f"{len(unknown)} questions of the submission have no gold answers, such as {unknown[0]}."


def _all_measured(measured: Mapping[str, Mapping[str, Mapping[str, float]]]) -> MeasuredRun:
    """Return the means over questions, the geometric ones (GMAP) too, of each kind's (documents, snippets) measures."""
    per_query = {
        f"{kind} {measure}": {name: values[measure] for name, values in questions.items()}
        for kind, questions in measured.items()
        if questions
        for measure in MEASURES
    }
    means = {measure: math.fsum(values.values()) / len(values) for measure, values in per_query.items()}
    for kind, questions in measured.items():
        if questions:
            means[f"{kind} GMAP"] = geometric_mean(per_query[f"{kind} AP"].values())
    return MeasuredRun(means, per_query)


def _as_snippets(passages: Iterable[Passage], gold: BioASQGold, wanted: Sequence[Span]) -> Iterator[GoldSnippet]:
    """Give passages with their places; one whose text stands nowhere shares nothing with what is wanted."""
    for number, passage in enumerate(passages):
        # A sentence may stand in several articles: the place counts that answers this question.
        places = gold.spans_of(passage) or [Span(f"unknown:{number}", "", 0, max(len(passage.text) - 1, 0))]
        place = max(places, key=lambda place: sum(place.shared(other) for other in wanted))
        yield GoldSnippet(passage.text, named_document(passage), place)


def _measure_snippets(found: Iterable[GoldSnippet], gold: Iterable[GoldSnippet], by_place: bool) -> dict[str, float]:
    if by_place:
        spans = _merged_spans(gold)
        overlaps = span_overlaps(_merged_spans(found), spans)
        return snippet_measures(overlaps, sum(span.size for span in spans), len(spans))
    texts = _merged_texts(gold)
    return snippet_measures(text_overlaps(_merged_texts(found), texts), sum(len(key) for _, key in texts), len(texts))


def _merged_spans(snippets: Iterable[GoldSnippet]) -> list[Span]:
    return merge_spans(snippet.span for snippet in snippets if snippet.span is not None)


def _merged_texts(snippets: Iterable[GoldSnippet]) -> list[tuple[str, str]]:
    return merge_texts((snippet.document, text_key(snippet.text)) for snippet in snippets)
