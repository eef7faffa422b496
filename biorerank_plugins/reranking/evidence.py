"""Evidence: which sentences of a ranked passage carry the answer, found by the model that ranked it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from biorerank_plugins.passages import Evidence, RankedPassage, Ranking
from biorerank_plugins.text.sentences import split_sentences

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from biorerank_plugins.text.windows import Span

__all__ = ["sentence_spans", "with_evidence"]


def sentence_spans(ranked: RankedPassage) -> list[Span]:
    """Return the sentences that may be evidence: those of the passage, or of its best window.

    A sentence that a window cuts counts as a whole.

    :param ranked: a passage of a ranking.
    """
    spans = split_sentences(ranked.passage.text)
    if ranked.window is None:
        return spans
    first, last = ranked.window
    return [(start, end) for start, end in spans if end > first and start < last]


def with_evidence(
    rankings: Sequence[Ranking],
    count: int,
    score: Callable[[list[tuple[str, str]]], NDArray[np.float32]],
    activate: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    probability: Callable[[float], float],
) -> list[Ranking]:
    """Give each ranked passage its best sentences.

    Each sentence is scored by itself: that is what the embedded model was trained on, and on PubMed abstracts it ranks
    sentences better than sentences with their neighbours do.

    :param rankings: the rankings.
    :param count: sentences a passage, at most.
    :param score: from (query, sentence) pairs to logits, float32 [n].
    :param activate: the model's activation of logits.
    :param probability: probability of a logit.
    :returns: the rankings with evidence, best sentence first; equal ones in the order of the text.
    """
    spans = [[sentence_spans(ranked) for ranked in ranking] for ranking in rankings]
    pairs = [
        (ranking.query, ranked.passage.text[start:end])
        for ranking, lists in zip(rankings, spans, strict=True)
        for ranked, own in zip(ranking, lists, strict=True)
        for start, end in own
    ]
    logits = score(pairs)
    scores = activate(logits)
    answered, at = [], 0
    for ranking, lists in zip(rankings, spans, strict=True):
        passages = []
        for ranked, own in zip(ranking, lists, strict=True):
            best = sorted(range(len(own)), key=lambda n: -float(logits[at + n]))[:count]
            passages.append(
                replace(
                    ranked,
                    evidence=tuple(
                        Evidence(
                            ranked.passage.text[slice(*own[n])],
                            *own[n],
                            score=float(scores[at + n]),
                            probability=probability(float(logits[at + n])),
                        )
                        for n in best
                    ),
                )
            )
            at += len(own)
        answered.append(replace(ranking, passages=tuple(passages)))
    return answered
