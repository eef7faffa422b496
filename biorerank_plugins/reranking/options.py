"""The options of a ranking: one list, checked once, for the core, every adapter, the command line and the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias, TypedDict, get_args

from biorerank_plugins._common.checks import finite_number, whole_number
from biorerank_plugins.articles.boosts import Boosts
from biorerank_plugins.articles.duplicates import Deduplicate, check_keys

Retracted: TypeAlias = Literal["keep", "flag", "drop"]
"""Retracted articles: nobody looks; they are marked; they are left out before scoring."""

Fusion: TypeAlias = float | Literal["stored", "second-reader", "order"] | None
"""What enters the order beside the logit: the first stage's score with this weight, what the model stores for it, a
second reader's opinion, the first stage's order, or nothing."""

Effort: TypeAlias = Literal["full", "auto"]
"""Whether the model reads every passage, or only those that are likely to come among the first ``top_k``."""


class RankKeywords(TypedDict, total=False):
    """The options as keywords, for the signatures of :meth:`~biorerank_plugins.BioReranker.rank` and its kin."""

    top_k: int | None
    min_score: float | None
    min_probability: float | None
    evidence: int
    fusion: Fusion
    deduplicate: Deduplicate
    retracted: Retracted
    boosts: Boosts | None
    effort: Effort


class CallKeywords(RankKeywords, total=False):
    """The same with what concerns one call: seconds that it may take, and whether it shows a progress bar."""

    timeout: float | None
    show_progress: bool


@dataclass(frozen=True, slots=True)
class RankOptions:
    """What is asked of a ranking beside the passages.

    :param top_k: return at most so many; ``None`` returns all.
    :param min_score: return only passages whose ``score``, before any boost, is at least this.
    :param min_probability: return only passages whose ``probability``, before any boost, is at least this.
    :param evidence: give each returned passage its best sentences, at most so many; each sentence is scored by itself.
    :param fusion: what enters the order beside the logit. A number of at least 0 is the weight of the first stage's
        scores. ``"stored"``: what the model stores for the first stage that the candidates name
        (``Candidate.first_stage``), else its prior from their ranks where they carry scores. ``"second-reader"``: the
        model's bi-encoder reads the candidates too, which takes as long again, and where they carry scores their ranks
        count (:mod:`~biorerank_plugins.reranking.model_share`). ``"order"``: passages are given in the first stage's
        order, whether they carry scores or not. ``None``: by logit. A candidate without a score counts as the last.
    :param deduplicate: keep only the first of passages that agree in one of these keys: ``"id"``, ``"pmid"``,
        ``"doi"``, ``"text"``, or a list of them. What was left out is in ``Ranking.dropped``.
    :param retracted: articles that their metadata call retracted: ``"keep"`` does not look, ``"flag"`` marks them
        (``RankedPassage.retracted``), ``"drop"`` leaves them out before scoring (``Ranking.dropped``).
    :param boosts: what to add for recent articles or kinds of study before passages are put in order; reported in
        ``RankedPassage.boost``.
    :param effort: ``"full"``: the model reads every passage. ``"auto"``: where ``top_k`` is given and the model stores
        how much its first stage tells, it reads from the first stage's best passage on, until no other one is likely
        to come among the first ``top_k``; ``Ranking.unread`` counts those
        (:mod:`~biorerank_plugins.reranking.effort`).
    :raises ValueError: if an option is impossible.
    :raises TypeError: if ``boosts`` is something else than :class:`~biorerank_plugins.Boosts`.

    >>> RankOptions(top_k=3).evidence
    0
    """

    top_k: int | None = None
    min_score: float | None = None
    min_probability: float | None = None
    evidence: int = 0
    fusion: Fusion = "stored"
    deduplicate: Deduplicate = None
    retracted: Retracted = "keep"
    boosts: Boosts | None = None
    effort: Effort = "full"

    def __post_init__(self) -> None:
        least = self.min_probability
        checked: dict[str, Any] = {
            "top_k": None if self.top_k is None else whole_number("top_k", self.top_k),
            "min_score": None if self.min_score is None else finite_number("min_score", self.min_score),
            "min_probability": None if least is None else finite_number("min_probability", least, low=0, high=1),
            "evidence": whole_number("evidence", self.evidence, least=0),
            "fusion": check_fusion(self.fusion),
            "deduplicate": check_keys(self.deduplicate),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        for name, choices in (("retracted", get_args(Retracted)), ("effort", get_args(Effort))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown. Choose one of: {', '.join(choices)}.")
        if self.boosts is not None and not isinstance(self.boosts, Boosts):
            raise TypeError(f"boosts must be Boosts or None, got {type(self.boosts).__name__}: {self.boosts!r:.80}.")

    @classmethod
    def of(cls, keywords: Mapping[str, Any]) -> RankOptions:
        """Return the options that a caller gave by name.

        :raises TypeError: if a name is unknown; the message lists those there are.
        """
        known = [one.name for one in fields(cls)]
        if unknown := sorted(keywords.keys() - set(known)):
            raise TypeError(f"There is no option {unknown[0]!r}. Options of a ranking: {', '.join(known)}.")
        return cls(**keywords)

    def admits(self, score: float, probability: float) -> bool:
        """Return whether a passage passes the thresholds."""
        return (self.min_score is None or score >= self.min_score) and (
            self.min_probability is None or probability >= self.min_probability
        )


def check_fusion(fusion: object) -> Fusion:
    """Return how the first stage enters the order; raise ``ValueError`` for what cannot be."""
    if fusion is None or fusion in ("stored", "second-reader", "order"):
        return fusion
    if isinstance(fusion, str):
        raise ValueError(f"fusion must be a number, None, 'stored', 'second-reader' or 'order', got {fusion!r}.")
    return finite_number("fusion", fusion, low=0, high=1e6)
