"""Is the answer among the candidates? A small calibrated model over how relevant the best of them are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from biorerank_plugins._common.checks import finite_number
from biorerank_plugins.models.calibration import Calibration, sigmoid


def relevance_features(log_odds: Sequence[float]) -> tuple[float, float]:
    """Return what the decision rests on: log-odds of the best and of the second.

    Means over more of them tell a little more among a hundred candidates, and mislead where there are only a few.

    :param log_odds: calibrated log-odds of relevance of the candidates, in any order, at least one. Log-odds and not
        logits, so that one model serves with every first stage.

    >>> relevance_features([1.0, 3.0])
    (3.0, 1.0)
    """
    ordered = sorted(log_odds, reverse=True)
    return ordered[0], ordered[min(1, len(ordered) - 1)]


@dataclass(frozen=True, slots=True)
class AnswerModel:
    """A logistic model of :func:`relevance_features`, and from where on a question counts as answered.

    >>> AnswerModel(1, 0, 0, answered=0.6, nothing=0.2).probability([0.0, -3.0])
    0.5
    """

    best: float  # weight of the best candidate's log-odds
    second: float  # of the second's
    intercept: float
    answered: float  # from this probability on the answer is there
    nothing: float  # below this probability nothing is there; in between one cannot be sure

    def __post_init__(self) -> None:
        for name in ("best", "second", "intercept"):
            finite_number(name, getattr(self, name))
        finite_number("answered", self.answered, low=0, high=1)
        finite_number("nothing", self.nothing, low=0, high=self.answered)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> AnswerModel:
        """Return what :meth:`to_dict` described; raise ``ValueError`` if a value is impossible, missing or unknown."""
        known = {one.name for one in fields(cls)}
        if wrong := sorted(known ^ values.keys()):
            raise ValueError(f"an answer model has the values {', '.join(sorted(known))}; {wrong[0]!r} is not right.")
        return cls(**values)

    def probability(self, log_odds: Sequence[float]) -> float:
        """Return the probability that the answer is among candidates of these log-odds."""
        best, second = relevance_features(log_odds)
        return sigmoid(self.best * best + self.second * second + self.intercept)

    def to_dict(self) -> dict[str, float]:
        """Return the values as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class EvidenceModel:
    """What the values of a passage's sentences mean.

    :param passage_weight: of the value that orders the passage, beside the sentence's logit.
    :param calibration: from the sum to a probability; its threshold is that of a sentence that may be quoted.
        ``None``: the passages' calibration, and every sentence may be quoted.
    :raises ValueError: if a value is impossible.
    """

    passage_weight: float = 0.0
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        finite_number("passage_weight", self.passage_weight, low=0, high=1e6)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> EvidenceModel:
        """Return what is stored; raise ``ValueError`` if a value is impossible or unknown."""
        if unknown := values.keys() - {one.name for one in fields(cls)}:
            raise ValueError(f"evidence has no {sorted(unknown)[0]!r}.")
        calibration = values.get("calibration")
        if calibration is not None and not isinstance(calibration, Mapping):
            raise ValueError(f"calibration must be an object, got {calibration!r:.80}.")
        return cls(**{**values, "calibration": None if calibration is None else Calibration.of(calibration)})
