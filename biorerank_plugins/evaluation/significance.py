"""Whether a difference between two runs is more than luck in the choice of queries."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

METHOD = (
    "95 % percentile interval of a paired bootstrap over queries; p_value by a two-sided paired sign-flip test, "
    "p_bootstrap by the same bootstrap shifted to no difference, p_t by a two-sided paired t-test"
)

P_VALUES = ("p_value", "p_bootstrap", "p_t")
"""Fields of a :class:`Comparison` that hold p-values."""

_VALUES_AT_ONCE = 2_000_000  # keeps the resamples of a large query set within some 16 MB


@dataclass(frozen=True, slots=True)
class Comparison:
    """A run against a baseline, by one measure.

    :param baseline: mean of the baseline.
    :param value: mean of the run.
    :param delta: ``value - baseline``.
    :param low: lower end of the 95 % confidence interval of ``delta``.
    :param high: upper end.
    :param p_value: chance of a difference at least this large, either way, if the two runs were as good as each other;
        by sign flips.
    :param wins: queries on which the run is better.
    :param losses: queries on which it is worse.
    :param p_bootstrap: the same chance by a paired bootstrap.
    :param p_t: the same chance by a paired t-test, which takes the differences for normally distributed.
    :param holm: the three p-values corrected for several comparisons (see :func:`corrected`), by the names of
        :data:`P_VALUES`; empty if this is the only one.
    """

    baseline: float
    value: float
    delta: float
    low: float
    high: float
    p_value: float
    wins: int
    losses: int
    p_bootstrap: float = math.nan
    p_t: float = math.nan
    holm: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain JSON types; a p-value that was not computed is ``None``."""
        values = {name: getattr(self, name) for name in self.__slots__}
        unknown = {name: None for name in P_VALUES if math.isnan(values[name])}
        return {**values, **unknown, "holm": dict(self.holm)}


def compare(
    baseline: Mapping[str, float], values: Mapping[str, float], *, resamples: int = 10_000, seed: int = 0
) -> Comparison:
    """Compare two runs query by query.

    The interval is the middle 95 % of the mean differences of a paired bootstrap over queries. ``p_value`` comes from a
    paired randomisation test: each query's difference might as well have the other sign. ``p_bootstrap`` is the share
    of the bootstrap's means at least as far from the observed mean as that is from 0; ``p_t`` is Student's. See
    Smucker, Allan and Carterette, "A Comparison of Statistical Significance Tests for Information Retrieval
    Evaluation" (CIKM 2007).

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
    means = _bootstrap_means(differences, resamples, rng)
    low, high = np.quantile(means, [0.025, 0.975])
    observed = float(differences.mean())
    return Comparison(
        baseline=float(before.mean()),
        value=float(after.mean()),
        delta=observed,
        low=float(low),
        high=float(high),
        p_value=_sign_flip_p(differences, resamples, rng),
        wins=int((differences > 0).sum()),
        losses=int((differences < 0).sum()),
        p_bootstrap=(int((np.abs(means - observed) >= abs(observed) - 1e-12).sum()) + 1) / (resamples + 1),
        p_t=_t_test_p(differences),
    )


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % percentile interval of a mean, by a bootstrap over queries.

    >>> interval([0.5, 0.5])
    (0.5, 0.5)
    """
    means = _bootstrap_means(np.array(values, dtype=np.float64), 10_000, np.random.default_rng(0))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def corrected(comparisons: Mapping[str, Comparison]) -> dict[str, Comparison]:
    """Correct the p-values of several comparisons with one baseline by the method of Holm (1979).

    The smallest of m p-values is multiplied by m, the next by m - 1, and so on; none falls below the one before it.
    The chance that any difference that passes is luck then stays below the level asked for.

    :param comparisons: by the name of the run; one measure and one baseline.
    :returns: the same comparisons with ``holm`` filled.

    >>> first, second = (compare({"a": 0.0, "b": 0.0}, {"a": x, "b": x}) for x in (0.1, 0.2))
    >>> corrected({"first": first, "second": second})["first"].holm["p_value"] == min(1.0, 2 * first.p_value)
    True
    """
    by_kind = {kind: holm({name: getattr(one, kind) for name, one in comparisons.items()}) for kind in P_VALUES}
    return {
        name: replace(one, holm={kind: values[name] for kind, values in by_kind.items()})
        for name, one in comparisons.items()
    }


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values of several comparisons, corrected as :func:`corrected` does."""
    adjusted: dict[str, float] = {}
    largest = 0.0
    for place, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, p_values[name] * (len(p_values) - place)))
        adjusted[name] = largest
    return adjusted


def _bootstrap_means(differences: NDArray[np.float64], resamples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    n = len(differences)
    draws = [differences[rng.integers(0, n, size=(rows, n))].mean(axis=1) for rows in _blocks(resamples, n)]
    return np.concatenate(draws)


def _t_test_p(differences: NDArray[np.float64]) -> float:
    # Where the test is not defined: one query tells nothing, and equal differences have no spread to compare with.
    if len(differences) < 2 or not np.any(differences):
        return 1.0
    if np.ptp(differences) <= 1e-12:
        return 0.0
    from scipy import stats

    return float(stats.ttest_1samp(differences, 0.0).pvalue)


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
