"""From logits to a :class:`~biorerank_plugins.passages.Ranking`: order, thresholds, and what was left out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from biorerank_plugins._common.checks import check_query, finite_number, whole_number
from biorerank_plugins.articles.boosts import Boosts
from biorerank_plugins.articles.duplicates import Deduplicate, check_keys, deduplicate
from biorerank_plugins.articles.metadata import MetadataKeys
from biorerank_plugins.errors import ScoringError
from biorerank_plugins.passages import Candidate, PassageLike, RankedPassage, Ranking, as_candidates

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from biorerank_plugins.models.calibration import Calibration
    from biorerank_plugins.reranking.passage_windows import PassageTexts
    from biorerank_plugins.scoring.scores import PairScores

__all__ = [
    "ArticleRules",
    "Cut",
    "Found",
    "RankRequest",
    "Retracted",
    "check_fusion",
    "order_candidates",
    "refuse_non_finite",
]

Retracted: TypeAlias = Literal["keep", "flag", "drop"]
"""Retracted articles: nobody looks; they are marked; they are left out before scoring."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What of a ranking is returned; made by :meth:`checked`."""

    top_k: int | None
    min_score: float | None
    min_probability: float | None

    @classmethod
    def checked(cls, top_k: int | None, min_score: float | None, min_probability: float | None) -> Cut:
        """Return the cut.

        :raises ValueError: if a value is impossible.
        """
        return cls(
            None if top_k is None else whole_number("top_k", top_k),
            None if min_score is None else finite_number("min_score", min_score),
            None if min_probability is None else finite_number("min_probability", min_probability, low=0, high=1),
        )

    def admits(self, score: float, probability: float) -> bool:
        """Return whether a passage passes the thresholds."""
        return (self.min_score is None or score >= self.min_score) and (
            self.min_probability is None or probability >= self.min_probability
        )


@dataclass(frozen=True, slots=True)
class ArticleRules:
    """What is made of what the metadata say about articles; made by :meth:`checked`."""

    keys: MetadataKeys
    deduplicate: tuple[str, ...]
    retracted: Retracted
    boosts: Boosts | None

    @classmethod
    def checked(
        cls, keys: MetadataKeys, duplicates: Deduplicate, retracted: str, boosts: Boosts | None
    ) -> ArticleRules:
        """Return the rules.

        :raises TypeError: if ``boosts`` are none.
        :raises ValueError: if a key or a word is unknown.
        """
        if boosts is not None and not isinstance(boosts, Boosts):
            raise TypeError(f"boosts must be Boosts or None, got {type(boosts).__name__}: {boosts!r:.80}.")
        for known in get_args(Retracted):
            if retracted == known:
                return cls(keys, check_keys(duplicates), known, boosts)
        raise ValueError(f"retracted={retracted!r} is unknown. Choose one of: {', '.join(get_args(Retracted))}.")


@dataclass(frozen=True, slots=True)
class RankRequest:
    """One query with its candidates: positions to score, and those left out with the reason."""

    query: str
    candidates: Sequence[Candidate]
    kept: Sequence[int]
    dropped: Mapping[int, str]
    rules: ArticleRules

    @classmethod
    def checked(cls, query: str, passages: Iterable[PassageLike], rules: ArticleRules) -> RankRequest:
        """Return the request.

        :raises TypeError: if the query is no string, or a passage is none.
        :raises ValueError: if the query is empty.
        """
        query = check_query(query)
        candidates = as_candidates(passages)
        dropped: dict[int, str] = {}
        if rules.retracted == "drop":
            found = (place for place, one in enumerate(candidates) if rules.keys.retracted_in(one.passage))
            dropped = dict.fromkeys(found, "retracted")
        sound = [place for place in range(len(candidates)) if place not in dropped]
        kept, repeated = deduplicate([candidates[place] for place in sound], rules.deduplicate, rules.keys)
        dropped |= {sound[place]: "duplicate" for place in repeated}
        return cls(query, candidates, [sound[place] for place in kept], dict(sorted(dropped.items())), rules)

    def scored(self) -> list[Candidate]:
        """Return the candidates that are scored, in input order."""
        return [self.candidates[position] for position in self.kept]


def check_fusion(fusion: float | str | None) -> float | Literal["stored"] | None:
    """Return how the first stage's scores enter the order.

    :raises ValueError: if it is neither a number of at least 0, nor ``"stored"``, nor ``None``.
    """
    if fusion is None:
        return None
    if isinstance(fusion, str):
        if fusion == "stored":
            return "stored"
        raise ValueError(f"fusion must be a number, None or 'stored', got {fusion!r}.")
    return finite_number("fusion", fusion, low=0, high=1e6)


@dataclass(frozen=True, slots=True)
class Found:
    """What the model says of the scored candidates of a request, in their order.

    :param scores: one entry a candidate.
    :param activated: the model's activation of the logits, float32 [n].
    :param readings: what was read of each.
    :param best: which of its windows won.
    """

    scores: PairScores
    activated: NDArray[np.float32]
    readings: Sequence[PassageTexts]
    best: Sequence[int]

    @classmethod
    def nothing(cls) -> Found:
        """Return what is said of no candidates."""
        import numpy as np

        from biorerank_plugins.scoring.scores import PairScores

        logits, flags = np.empty(0, np.float32), np.empty(0, np.bool_)
        return cls(PairScores(logits, flags, flags), logits, (), ())


def order_candidates(
    request: RankRequest,
    found: Found,
    cut: Cut,
    fusion: float | None,
    calibration: Calibration,
    timings: dict[str, float],
) -> Ranking:
    """Put the scored candidates of a request in order.

    :param request: the request.
    :param found: of ``request.scored()``, in that order.
    :param cut: what is returned.
    :param fusion: weight of the first stage's scores in the order; ``None`` orders by logit.
    :param calibration: from logits to probabilities.
    :param timings: seconds by stage.
    :raises ScoringError: if a logit is not finite; it names the passages. A sort would put them anywhere.
    """
    scores = found.scores
    logits = [float(logit) for logit in scores.logits]
    candidates = request.scored()
    refuse_non_finite([candidate.passage.id for candidate in candidates], logits)
    first_stage = [_finite_or_none(candidate.score) for candidate in candidates]
    values = _fused(logits, first_stage, fusion)
    rules = request.rules
    boosts = [0.0 if rules.boosts is None else rules.boosts.of(one.passage, rules.keys) for one in candidates]
    probabilities = [
        calibration.probability(logit, len(read.texts)) for logit, read in zip(logits, found.readings, strict=True)
    ]
    ranked: list[RankedPassage] = []
    # The sort is stable: passages that the model cannot tell apart keep their first-stage order.
    for position in sorted(range(len(values)), key=lambda p: -(values[p] + boosts[p])):
        score, probability = float(found.activated[position]), probabilities[position]
        if not cut.admits(score, probability):
            continue
        ranked.append(
            RankedPassage(
                passage=candidates[position].passage,
                input_index=request.kept[position],
                rank=len(ranked) + 1,
                logit=logits[position],
                score=score,
                probability=probability,
                retrieval_score=first_stage[position],
                n_windows=len(found.readings[position].texts),
                window=found.readings[position].spans[found.best[position]] if found.readings[position].spans else None,
                truncated=bool(scores.truncated[position]),
                fused=None if values is logits else values[position],
                boost=boosts[position],
                retracted=None if rules.retracted == "keep" else rules.keys.retracted_in(candidates[position].passage),
            )
        )
    return Ranking(
        query=request.query,
        passages=tuple(ranked[: cut.top_k]),
        dropped=tuple(request.candidates[position].passage for position in request.dropped),
        below_threshold=len(logits) - len(ranked),
        no_evidence=_none_reaches(probabilities, calibration.evidence_threshold),
        query_truncated=bool(scores.query_truncated.any()),
        timings=timings,
        drop_reasons=tuple(request.dropped.values()),
    )


def refuse_non_finite(ids: Sequence[str], logits: Iterable[float]) -> None:
    """Raise if a logit is not finite.

    :param ids: what the message calls the passages.
    :param logits: one for each.
    :raises ScoringError: if a logit is not finite; it names the passages.
    """
    bad = tuple(name for name, logit in zip(ids, logits, strict=True) if not math.isfinite(logit))
    if bad:
        named = ", ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
        raise ScoringError(f"The model gives no finite logit for {len(bad)} of {len(ids)} passages: {named}.", bad)


def _fused(logits: Sequence[float], found: Sequence[float | None], fusion: float | None) -> Sequence[float]:
    """Return logit plus weighted first-stage score; a candidate without a score counts as the first stage's last."""
    known = [score for score in found if score is not None]
    if fusion is None or not known:
        return logits
    lowest = min(known)
    return [logit + fusion * (lowest if score is None else score) for logit, score in zip(logits, found, strict=True)]


def _finite_or_none(score: float | None) -> float | None:
    return None if score is None or not math.isfinite(score) else float(score)


def _none_reaches(probabilities: Sequence[float], threshold: float | None) -> bool | None:
    return None if threshold is None else all(probability < threshold for probability in probabilities)
