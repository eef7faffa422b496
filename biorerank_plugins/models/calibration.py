"""From a logit to a probability that can be compared with a number, and to "there is no evidence here".

A cross-encoder's sigmoid is no probability: the model saw about as many positives as negatives, a first stage hands it
few positives among many. Platt's scaling (Platt 1999, "Probabilistic Outputs for Support Vector Machines") fits a slope
and an intercept on judged candidates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from biorerank_plugins._common.checks import finite_number

_FORMER = "per_log_window"  # of 0.1: it let probabilities rise along a list, and is no longer read


@dataclass(frozen=True, slots=True)
class Calibration:
    """How a model's logits become probabilities; the default is the plain sigmoid.

    :param slope: of the logit; more than 0, so that the order stays.
    :param intercept: added to it.
    :param evidence_threshold: a ranking none of whose passages has at least this probability has no evidence; ``None``
        if nothing was fitted.
    :raises ValueError: if a value is impossible.

    >>> round(Calibration(slope=0.5, intercept=-1.0).probability(4.0), 4)
    0.7311
    """

    slope: float = 1.0
    intercept: float = 0.0
    evidence_threshold: float | None = None

    def __post_init__(self) -> None:
        finite_number("slope", self.slope, low=1e-9, high=1e9)
        finite_number("intercept", self.intercept)
        if self.evidence_threshold is not None:
            finite_number("evidence_threshold", self.evidence_threshold, low=0, high=1)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Calibration:
        """Return what :meth:`to_dict` described; raise ``ValueError`` if a value is impossible or unknown."""
        kept = {name: value for name, value in values.items() if name != _FORMER}
        if unknown := kept.keys() - {one.name for one in fields(cls)}:
            raise ValueError(f"a calibration has no {sorted(unknown)[0]!r}.")
        return cls(**kept)

    def log_odds(self, value: float) -> float:
        """Return the log-odds of relevance, from what orders passages: a logit, or one fused with a first stage's."""
        return self.slope * value + self.intercept

    def probability(self, value: float) -> float:
        """Return the probability of relevance, from what :meth:`log_odds` takes."""
        return sigmoid(self.log_odds(value))

    def to_dict(self) -> dict[str, float | None]:
        """Return the values as plain JSON types."""
        return asdict(self)


def fit_calibration(
    values: Sequence[float], relevant: Sequence[bool], evidence_threshold: float | None = None
) -> Calibration:
    """Fit a calibration by maximum likelihood (logistic regression of scikit-learn, without regularisation).

    :param values: what judged candidates were ordered by, as a first stage hands them over.
    :param relevant: whether each of them is relevant; both kinds must occur.
    :param evidence_threshold: see :class:`Calibration`.
    :raises ValueError: if there is nothing to fit, or higher values are not more often relevant.

    >>> fitted = fit_calibration([2.0, 1.0, 0.0, -1.0, 0.5, -2.0], [True, True, False, False, False, False])
    >>> fitted.probability(2.0) > 0.5 > fitted.probability(-1.0)
    True
    """
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    if len(set(map(bool, relevant))) < 2:
        raise ValueError("A calibration needs candidates of both kinds: relevant ones and others.")
    column = np.asarray(values, dtype=np.float64)[:, None]
    fitted = LogisticRegression(C=np.inf, max_iter=1000).fit(column, np.asarray(relevant, dtype=bool))
    slope = float(fitted.coef_[0][0])
    if slope <= 0:
        raise ValueError(f"Higher logits are not more often relevant (slope {slope:.3g}): is this the right model?")
    return Calibration(slope, float(fitted.intercept_[0]), evidence_threshold)


def sigmoid(value: float) -> float:
    """Return ``1 / (1 + exp(-value))`` without overflow."""
    if value >= 0:
        return 1.0 / (1.0 + math.exp(-value))
    small = math.exp(value)
    return small / (1.0 + small)
