"""From logits to a :class:`~biorerank_plugins.passages.Ranking`: what orders, what is shown of it, what is left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biorerank_plugins.errors import ScoringError
from biorerank_plugins.models.calibration import Calibration
from biorerank_plugins.models.stored import StoredValues
from biorerank_plugins.passages import RankedPassage, Ranking
from biorerank_plugins.reranking.answerable import decide
from biorerank_plugins.reranking.first_stage_prior import Prior, finite_score
from biorerank_plugins.reranking.options import RankOptions
from biorerank_plugins.reranking.passage_windows import PassageTexts
from biorerank_plugins.reranking.request import RankRequest
from biorerank_plugins.scoring.scores import PairScores


@dataclass(frozen=True, slots=True)
class Scored:
    """What the model says of the scored candidates of a request, in their order."""

    scores: PairScores
    texts: Sequence[PassageTexts]  # what was read of each
    best: Sequence[int]  # which of its windows won
    activate: Callable[[NDArray[np.float32]], NDArray[np.float32]]

    def window(self, position: int) -> tuple[int, int] | None:
        """Return where the window that won lies in its passage; ``None`` for a passage read as a whole."""
        spans = self.texts[position].spans
        return spans[self.best[position]] if spans else None


def order_candidates(
    request: RankRequest,
    scored: Scored | None,
    options: RankOptions,
    prior: Prior,
    stored: StoredValues,
    timings: Mapping[str, float],
) -> Ranking:
    """Put the scored candidates of a request in order.

    The value that orders is the logit, plus what the first stage adds, plus the boost; ``score`` and ``probability``
    are made of it, so that neither rises along the list. Thresholds and ``no_evidence`` leave the boost out: it is a
    preference, and makes nothing relevant.

    :param scored: of ``request.scored()``, in that order; ``None`` if there are none.
    :param stored: what is stored with the model: from the value that orders to a probability, and what tells whether
        the answer is among the candidates.
    :raises ScoringError: if a logit is not finite; it names the passages. A sort would put them anywhere.
    """
    calibration = stored.calibration_for(prior.stored)
    logits = [] if scored is None else [float(logit) for logit in scored.scores.logits]
    candidates = request.scored()
    refuse_non_finite([candidate.passage.id for candidate in candidates], logits)
    fused = logits if prior.added is None else [a + b for a, b in zip(logits, prior.added, strict=True)]
    boost = boosts_of(request, options)
    values = [value + more for value, more in zip(fused, boost, strict=True)]
    # What thresholds look at, and what is shown: the same unless there are boosts.
    relevance = _shown(fused, scored, calibration)
    shown = relevance if options.boosts is None else _shown(values, scored, calibration)
    ranked: list[RankedPassage] = []
    # The sort is stable: passages that the model cannot tell apart keep their first-stage order.
    for position in sorted(range(len(values)), key=lambda p: -values[p]):
        if scored is None or not options.admits(*relevance[position]):
            continue
        candidate = candidates[position]
        score, probability = shown[position]
        ranked.append(
            RankedPassage(
                passage=candidate.passage,
                input_index=request.kept[position],
                rank=len(ranked) + 1,
                logit=logits[position],
                score=score,
                probability=probability,
                retrieval_score=finite_score(candidate),
                n_windows=len(scored.texts[position].texts),
                window=scored.window(position),
                truncated=bool(scored.scores.truncated[position]),
                fused=None if prior.added is None else fused[position],
                boost=boost[position],
                retracted=None if options.retracted == "keep" else request.keys.retracted_in(candidate.passage),
            )
        )
    threshold = calibration.evidence_threshold
    return Ranking(
        query=request.query,
        passages=tuple(ranked[: options.top_k]),
        dropped=request.left_out(),
        below_threshold=len(values) - len(ranked),
        no_evidence=None if threshold is None else all(probability < threshold for _, probability in relevance),
        answerability=(
            decide(request.query, fused, request.texts(), calibration, stored.answering)
            if stored.answering and fused
            else None
        ),
        query_truncated=scored is not None and bool(scored.scores.query_truncated.any()),
        timings=timings,
        drop_reasons=tuple(request.dropped.values()),
        unread=len(request.unread),
    )


def boosts_of(request: RankRequest, options: RankOptions) -> list[float]:
    """Return the boost of each candidate that is scored."""
    boosts = options.boosts
    return [0.0 if boosts is None else boosts.of(one.passage, request.keys) for one in request.scored()]


def _shown(values: Sequence[float], scored: Scored | None, calibration: Calibration) -> list[tuple[float, float]]:
    """Return score and probability of each value."""
    if scored is None:  # there are no values
        return []
    scores = scored.activate(np.asarray(values, dtype=np.float32))
    return [(float(score), calibration.probability(value)) for score, value in zip(scores, values, strict=True)]


def refuse_non_finite(ids: Sequence[str], logits: Iterable[float]) -> None:
    """Raise :class:`~biorerank_plugins.errors.ScoringError` if a logit is not finite; it names the passages."""
    bad = tuple(name for name, logit in zip(ids, logits, strict=True) if not math.isfinite(logit))
    if bad:
        named = ", ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
        raise ScoringError(f"The model gives no finite logit for {len(bad)} of {len(ids)} passages: {named}.", bad)
