"""Evidence: which sentences of a ranked passage carry the answer, found by the model that ranked it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING

from biorerank_plugins.passages import Evidence, RankedPassage, Ranking
from biorerank_plugins.reranking.readings import readings
from biorerank_plugins.text.sentences import split_sentences

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from biorerank_plugins.models.answering import EvidenceModel
    from biorerank_plugins.models.calibration import Calibration
    from biorerank_plugins.text.windows import Span


@dataclass(frozen=True, slots=True)
class _Sentences:
    """Sentences of a ranked passage that may be evidence, and what the model reads of each."""

    ranked: RankedPassage
    spans: Sequence[Span]
    texts: Sequence[tuple[str, ...]]

    @classmethod
    def of(cls, question: str, ranked: RankedPassage) -> _Sentences:
        """Take the sentences of the passage, or of its best window; one that the window cuts counts as a whole."""
        passage = ranked.passage
        spans = split_sentences(passage.text)
        read = readings(question, passage.text, spans, passage.title)
        first, last = ranked.window or (0, len(passage.text))
        inside = [n for n, (start, end) in enumerate(spans) if end > first and start < last]
        return cls(ranked, [spans[n] for n in inside], [read[n] for n in inside])


def with_evidence(
    rankings: Sequence[Ranking],
    count: int,
    score: Callable[[list[tuple[str, str]]], NDArray[np.float32]],
    activate: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    model: EvidenceModel,
    calibration: Calibration,
) -> list[Ranking]:
    """Give each ranked passage its best sentences.

    The value of a sentence is its logit, in the words of the question where it says them otherwise
    (:func:`~biorerank_plugins.reranking.readings.readings`). A share of what orders its passage is added: a sentence of
    a passage that answers is a better answer than the same words elsewhere.

    :param count: sentences a passage, at most.
    :param score: from (query, sentence) pairs to logits, float32 [n].
    :param calibration: of passages, where the model has none for sentences.
    :returns: the rankings with evidence, best sentence first; equal ones in the order of the text.
    """
    lists = [[_Sentences.of(ranking.query, ranked) for ranked in ranking] for ranking in rankings]
    pairs = [
        (ranking.query, text)
        for ranking, found in zip(rankings, lists, strict=True)
        for sentences in found
        for texts in sentences.texts
        for text in texts
    ]
    logits = iter(score(pairs).tolist())
    answered = []
    for ranking, found in zip(rankings, lists, strict=True):
        passages = []
        for sentences in found:
            ranked = sentences.ranked
            share = model.passage_weight * (ranked.order_value - ranked.boost) if model.passage_weight else 0.0
            values = [fmean(next(logits) for _ in texts) + share for texts in sentences.texts]
            passages.append(replace(ranked, evidence=_best(sentences, values, count, activate, model, calibration)))
        answered.append(replace(ranking, passages=tuple(passages)))
    return answered


def _best(
    sentences: _Sentences,
    values: Sequence[float],
    count: int,
    activate: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    model: EvidenceModel,
    calibration: Calibration,
) -> tuple[Evidence, ...]:
    import numpy as np

    own = calibration if model.calibration is None else model.calibration
    threshold = None if model.calibration is None else own.evidence_threshold
    scores = activate(np.asarray(values, dtype=np.float32))
    text = sentences.ranked.passage.text
    found = []
    for n in sorted(range(len(values)), key=lambda n: -values[n])[:count]:
        start, end = sentences.spans[n]
        probability = own.probability(values[n])
        quotable = threshold is None or probability >= threshold
        found.append(Evidence(text[start:end], start, end, float(scores[n]), probability, quotable))
    return tuple(found)
