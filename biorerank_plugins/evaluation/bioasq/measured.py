"""Lists of passages, measured against BioASQ's gold answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from biorerank_plugins.evaluation.bioasq.gold import BioASQGold, GoldSnippet, document_of, named_document
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
    for name in asked:
        if snippets := gold.snippets.get(name):
            passages = [passage for id_ in orders.get(name, ()) if (passage := find(id_)) is not None]
            measured[_DOCUMENTS][name] = document_measures([document_of(p) for p in passages], gold.documents[name])
            measured[_SNIPPETS][name] = _measure_snippets(passages[:TOP], gold, snippets)
    return all_measured(measured)


def all_measured(measured: Mapping[str, Mapping[str, Mapping[str, float]]]) -> MeasuredRun:
    """Return the means over questions, the geometric ones (GMAP) too.

    :param measured: for each kind (documents, snippets) and question its measures.
    """
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


def _measure_snippets(
    passages: Sequence[Passage], gold: BioASQGold, snippets: Sequence[GoldSnippet]
) -> dict[str, float]:
    if gold.has_offsets:
        wanted = merged_spans(snippets)
        return spans_measured(merge_spans(_places(passages, gold, wanted)), wanted)
    return texts_measured([(named_document(passage), passage.text) for passage in passages], snippets)


def merged_spans(snippets: Iterable[GoldSnippet]) -> list[Span]:
    """Return the places of snippets that have one."""
    return merge_spans(snippet.span for snippet in snippets if snippet.span is not None)


def spans_measured(found: Sequence[Span], gold: Sequence[Span]) -> dict[str, float]:
    """Measure what was found by its places, both merged before."""
    return snippet_measures(span_overlaps(found, gold), sum(span.size for span in gold), len(gold))


def texts_measured(found: Iterable[tuple[str, str]], snippets: Sequence[GoldSnippet]) -> dict[str, float]:
    """Measure what was found, (article, text) each, by its texts."""
    texts = merge_texts((snippet.document, text_key(snippet.text)) for snippet in snippets)
    own = merge_texts((document, text_key(text)) for document, text in found)
    return snippet_measures(text_overlaps(own, texts), sum(len(key) for _, key in texts), len(texts))


def _places(passages: Sequence[Passage], gold: BioASQGold, wanted: Sequence[Span]) -> Iterator[Span]:
    """Give the place of each passage; one whose text stands nowhere shares nothing with what is wanted."""
    for number, passage in enumerate(passages):
        # A sentence may stand in several articles: the place counts that answers this question.
        places = gold.spans_of(passage) or [Span(f"unknown:{number}", "", 0, max(len(passage.text) - 1, 0))]
        yield max(places, key=lambda place: sum(place.shared(other) for other in wanted))
