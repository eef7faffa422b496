"""Whether a difference between two runs is more than luck in the choice of queries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Comparison", "compare"]

METHOD = "95 % percentile interval of a paired bootstrap over queries; p by a two-sided paired sign-flip test"

_VALUES_AT_ONCE = 2_000_000  # keeps the resamples of a large query set within some 16 MB


@dataclass(frozen=True, slots=True)
class Comparison:
    """A run against a baseline, by one measure.

    :param baseline: mean of the baseline.
    :param value: mean of the run.
    :param delta: ``value - baseline``.
    :param low: lower end of the 95 % confidence interval of ``delta``.
    :param high: upper end.
    :param p_value: chance of a difference at least this large, either way, if the two runs were as good as each other.
    :param wins: queries on which the run is better.
    :param losses: queries on which it is worse.
    """

    baseline: float
    value: float
    delta: float
    low: float
    high: float
    p_value: float
    wins: int
    losses: int

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain JSON types."""
        return {name: getattr(self, name) for name in self.__slots__}


def compare(
    baseline: Mapping[str, float], values: Mapping[str, float], *, resamples: int = 10_000, seed: int = 0
) -> Comparison:
    """Compare two runs query by query.

    The interval comes from a paired bootstrap: queries are drawn with replacement, the mean difference is taken each
    time, and the middle 95 % of these means is reported. The p-value comes from a paired randomisation test: under the
    null hypothesis each query's difference might as well have the other sign. Both are seeded, so the same values give
    the same numbers.

    :param baseline: value of each query under the baseline.
    :param values: value of the same queries under the run.
    :param resamples: draws for the interval, and again for the p-value.
    :param seed: of the random draws.
    :raises ValueError: if the queries differ, there are none, or ``resamples`` is below 1.

    >>> compare({"a": 0.0, "b": 0.5}, {"a": 0.5, "b": 1.0}).delta
    0.5
    """
    if baseline.keys() != values.keys() or not values:
        raise ValueError(
            f"Both runs must have values for the same queries, got {len(baseline)} and {len(values)} "
            f"with {len(baseline.keys() & values.keys())} in common."
        )
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}.")
    before = np.array([baseline[query_id] for query_id in values], dtype=np.float64)
    after = np.array(list(values.values()), dtype=np.float64)
    differences = after - before
    rng = np.random.default_rng(seed)
    low, high = np.quantile(_bootstrap_means(differences, resamples, rng), [0.025, 0.975])
    return Comparison(
        baseline=float(before.mean()),
        value=float(after.mean()),
        delta=float(differences.mean()),
        low=float(low),
        high=float(high),
        p_value=_sign_flip_p(differences, resamples, rng),
        wins=int((differences > 0).sum()),
        losses=int((differences < 0).sum()),
    )


def _bootstrap_means(differences: NDArray[np.float64], resamples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    n = len(differences)
    draws = [differences[rng.integers(0, n, size=(rows, n))].mean(axis=1) for rows in _blocks(resamples, n)]
    return np.concatenate(draws)


def _sign_flip_p(differences: NDArray[np.float64], resamples: int, rng: np.random.Generator) -> float:
    n = len(differences)
    observed = abs(float(differences.sum()))
    # Sums of the same numbers in another order differ in the last bits; those are as extreme, not less.
    threshold = observed - 1e-12 * max(1.0, float(np.abs(differences).sum()))
    as_extreme = 0
    for rows in _blocks(resamples, n):
        signs = rng.integers(0, 2, size=(rows, n), dtype=np.int8) * 2 - 1
        as_extreme += int((np.abs(signs @ differences) >= threshold).sum())
    # The observed order is one of the possible ones: with it a p-value is never 0.
    return (as_extreme + 1) / (resamples + 1)


def _blocks(resamples: int, n: int) -> Iterator[int]:
    rows = max(1, _VALUES_AT_ONCE // n)
    for start in range(0, resamples, rows):
        yield min(rows, resamples - start)
