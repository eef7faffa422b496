"""What the first stage knows of candidates, as something to add to the model's logits: the sum orders better.

The score of a first stage of ours enters with the weight that was fitted for it. Any other has a scale that is not
known: there the *rank* enters, as ``-weight · ln(rank)``, and where it is asked for our bi-encoder reads them too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from biorerank_plugins.models.stored import StoredReader, StoredValues
from biorerank_plugins.passages import Candidate
from biorerank_plugins.reranking.options import Fusion

RANK_WEIGHT = 0.75  # of ``-ln(rank)`` for a model that stores none and is asked to take the given order into account


@dataclass(frozen=True, slots=True)
class Prior:
    """One number a candidate, to be added to its logit; ``None`` where the order is by logit alone."""

    added: Sequence[float] | None = None
    stored: str | None = None
    """Name of the first stage whose stored weight was used, if one was."""


def choose_prior(
    fusion: Fusion, candidates: Sequence[Candidate], stored: StoredValues, cosines: Sequence[float] | None = None
) -> Prior:
    """Return what the first stage adds to the candidates, with a second reader's cosines where it is asked for."""
    if cosines is not None and stored.second_reader is not None:
        return _by_second_reader(candidates, cosines, stored.second_reader, stored)
    if fusion == "order":
        weight = RANK_WEIGHT if stored.rank_weight is None else stored.rank_weight
        return Prior([-weight * math.log(rank) for rank in range(1, len(candidates) + 1)])
    scores = [finite_score(candidate) for candidate in candidates]
    known = [score for score in scores if score is not None]
    if fusion is None or not known:
        return Prior()
    lowest = min(known)
    filled = [lowest if score is None else score for score in scores]
    if not isinstance(fusion, str):
        # The best keeps its logit: a constant changes no order, and scores stay on the model's scale.
        return Prior(_weighted(filled, float(fusion), max(known)))
    names = {one.first_stage for one, score in zip(candidates, scores, strict=True) if score is not None}
    name = names.pop() if len(names) == 1 else None
    if name is not None and name in stored.fusion:
        own = stored.fusion[name]
        reference = max(known) if own.reference is None else own.reference
        return Prior(_weighted(filled, own.weight, reference), name)
    return Prior() if stored.rank_weight is None else Prior(_by_rank(scores, stored.rank_weight))


def _by_second_reader(
    candidates: Sequence[Candidate], cosines: Sequence[float], reader: StoredReader, stored: StoredValues
) -> Prior:
    """Return what would be added had the bi-encoder found the candidates, and their ranks where they carry scores."""
    own = stored.fusion[reader.encoder]
    assert own.reference is not None  # checked when it was read
    added = _weighted(cosines, own.weight, own.reference)
    scores = [finite_score(candidate) for candidate in candidates]
    if any(score is not None for score in scores):
        added = [a + b for a, b in zip(added, _by_rank(scores, reader.rank_weight), strict=True)]
    return Prior(added, reader.encoder)


def _weighted(scores: Sequence[float], weight: float, reference: float) -> list[float]:
    return [weight * (score - reference) for score in scores]


def _by_rank(scores: Sequence[float | None], weight: float) -> list[float]:
    """Return ``-weight · ln(rank)``; equal scores share the better rank, and candidates without one come last."""
    best_first = sorted((score for score in scores if score is not None), reverse=True)
    rank_of: dict[float | None, int] = {None: len(best_first) + 1}
    for rank, score in enumerate(best_first, 1):
        rank_of.setdefault(score, rank)
    return [-weight * math.log(rank_of[score]) for score in scores]


def finite_score(candidate: Candidate) -> float | None:
    """Return the first stage's score of a candidate; ``None`` if it has none, or one that is not finite."""
    score = candidate.score
    return None if score is None or not math.isfinite(score) else float(score)
