"""From a logit to a probability that can be compared with a number, and to "there is no evidence here".

A cross-encoder's sigmoid is no probability: the model saw about as many positives as negatives, a first stage hands it
few positives among many. Platt's scaling (Platt 1999, "Probabilistic Outputs for Support Vector Machines") fits a slope
and an intercept on judged candidates. The best of many windows is higher than the only one by chance alone, which a
third number takes back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from biorerank_plugins._common.checks import finite_number

__all__ = ["Calibration", "fit_calibration", "sigmoid"]

_FEWEST = 0.01  # share of candidates with several windows from which on there is something to fit


@dataclass(frozen=True, slots=True)
class Calibration:
    """How a model's logits become probabilities; the default is the plain sigmoid.

    :param slope: of the logit; more than 0, so that the order stays.
    :param intercept: added to it.
    :param per_log_window: times the natural logarithm of the number of windows, added too.
    :param evidence_threshold: a ranking none of whose passages has at least this probability has no evidence; ``None``
        if nothing was fitted.
    :raises ValueError: if a value is impossible.

    >>> round(Calibration(slope=0.5, intercept=-1.0).probability(4.0), 4)
    0.7311
    """

    slope: float = 1.0
    intercept: float = 0.0
    per_log_window: float = 0.0
    evidence_threshold: float | None = None

    def __post_init__(self) -> None:
        finite_number("slope", self.slope, low=1e-9, high=1e9)
        finite_number("intercept", self.intercept)
        finite_number("per_log_window", self.per_log_window)
        if self.evidence_threshold is not None:
            finite_number("evidence_threshold", self.evidence_threshold, low=0, high=1)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Calibration:
        """Return what :meth:`to_dict` described.

        :raises ValueError: if a value is impossible or has an unknown name.
        """
        unknown = values.keys() - {"slope", "intercept", "per_log_window", "evidence_threshold"}
        if unknown:
            raise ValueError(f"a calibration has no {sorted(unknown)[0]!r}.")
        return cls(**values)

    def probability(self, logit: float, n_windows: int = 1) -> float:
        """Return the probability of relevance.

        :param logit: the model's raw output for a passage: the best of its windows.
        :param n_windows: how many windows there were.
        """
        return sigmoid(self.slope * logit + self.intercept + self.per_log_window * math.log(n_windows))

    def to_dict(self) -> dict[str, float | None]:
        """Return the values as plain JSON types."""
        return asdict(self)


def fit_calibration(
    logits: Sequence[float],
    relevant: Sequence[bool],
    n_windows: Sequence[int] | None = None,
    evidence_threshold: float | None = None,
) -> Calibration:
    """Fit a calibration by maximum likelihood (logistic regression of scikit-learn, without regularisation).

    :param logits: of judged candidates, as a first stage hands them over.
    :param relevant: whether each of them is relevant; both kinds must occur.
    :param n_windows: windows of each; ``None``, or less than one in a hundred with several, leaves their part at 0.
    :param evidence_threshold: see :class:`Calibration`.
    :raises ValueError: if there is nothing to fit, or higher logits are not more often relevant.

    >>> fitted = fit_calibration([2.0, 1.0, 0.0, -1.0, 0.5, -2.0], [True, True, False, False, False, False])
    >>> fitted.probability(2.0) > 0.5 > fitted.probability(-1.0)
    True
    """
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    if len(set(map(bool, relevant))) < 2:
        raise ValueError("A calibration needs candidates of both kinds: relevant ones and others.")
    columns = [np.asarray(logits, dtype=np.float64)]
    if n_windows is not None and _FEWEST <= float(np.mean(np.asarray(n_windows) > 1)) < 1:
        columns.append(np.log(np.asarray(n_windows, dtype=np.float64)))
    fitted = LogisticRegression(C=np.inf, max_iter=1000).fit(
        np.stack(columns, axis=1), np.asarray(relevant, dtype=bool)
    )
    slope, *rest = (float(value) for value in fitted.coef_[0])
    if slope <= 0:
        raise ValueError(f"Higher logits are not more often relevant (slope {slope:.3g}): is this the right model?")
    return Calibration(slope, float(fitted.intercept_[0]), rest[0] if rest else 0.0, evidence_threshold)


def sigmoid(value: float) -> float:
    """Return ``1 / (1 + exp(-value))`` without overflow."""
    if value >= 0:
        return 1.0 / (1.0 + math.exp(-value))
    small = math.exp(value)
    return small / (1.0 + small)
