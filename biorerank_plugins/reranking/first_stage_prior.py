"""What the first stage knows of candidates, as something to add to the model's logits.

A bi-encoder or BM25 sees what a cross-encoder does not, and the sum of both orders better than either. Where the first
stage is one of ours, its score enters with the weight that was fitted for it. Any other has a scale that is not known:
there the *rank* enters, as ``-weight · ln(rank)``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from biorerank_plugins.models.stored import StoredFusion
from biorerank_plugins.passages import Candidate
from biorerank_plugins.reranking.options import Fusion

RANK_WEIGHT = 0.75
"""Weight of ``-ln(rank)`` for a model that stores none and is asked to take the given order into account."""


@dataclass(frozen=True, slots=True)
class Prior:
    """One number a candidate, to be added to its logit; ``None`` where the order is by logit alone.

    :param added: for each candidate, or ``None``.
    :param stored: name of the first stage whose stored weight was used, if one was.
    """

    added: Sequence[float] | None = None
    stored: str | None = None


def choose_prior(
    fusion: Fusion,
    candidates: Sequence[Candidate],
    stored: Callable[[str], StoredFusion | None],
    rank_weight: float | None,
) -> Prior:
    """Return what the first stage adds.

    :param fusion: what the caller asked for.
    :param candidates: those that are scored, in input order.
    :param stored: what the model stores for a first stage.
    :param rank_weight: weight of ``-ln(rank)`` that the model stores for any other first stage; ``None`` for none.
    """
    if fusion == "order":
        weight = RANK_WEIGHT if rank_weight is None else rank_weight
        return Prior([-weight * math.log(rank) for rank in range(1, len(candidates) + 1)])
    scores = [finite_score(candidate) for candidate in candidates]
    known = [score for score in scores if score is not None]
    if fusion is None or not known:
        return Prior()
    lowest = min(known)
    filled = [lowest if score is None else score for score in scores]
    if fusion != "stored":
        # The best keeps its logit: a constant changes no order, and scores stay on the model's scale.
        return Prior(_weighted(filled, float(fusion), max(known)))
    names = {candidate.first_stage for candidate, score in zip(candidates, scores, strict=True) if score is not None}
    name = names.pop() if len(names) == 1 else None
    own = None if name is None else stored(name)
    if own is not None:
        reference = max(known) if own.reference is None else own.reference
        return Prior(_weighted(filled, own.weight, reference), name)
    return Prior() if rank_weight is None else Prior(_by_rank(scores, rank_weight))


def _weighted(scores: Sequence[float], weight: float, reference: float) -> list[float]:
    return [weight * (score - reference) for score in scores]


def _by_rank(scores: Sequence[float | None], weight: float) -> list[float]:
    """Return ``-weight · ln(rank)``; equal scores share the better rank, and candidates without one come last."""
    counts = Counter(score for score in scores if score is not None)
    rank_of: dict[float | None, int] = {}
    rank = 1
    for score in sorted(counts, reverse=True):
        rank_of[score] = rank
        rank += counts[score]
    rank_of[None] = rank
    return [-weight * math.log(rank_of[score]) for score in scores]


def finite_score(candidate: Candidate) -> float | None:
    """Return the first stage's score of a candidate; ``None`` if it has none, or one that is not finite."""
    score = candidate.score
    return None if score is None or not math.isfinite(score) else float(score)
