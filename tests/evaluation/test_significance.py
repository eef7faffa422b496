"""The interval and the p-value, against exact enumeration and scipy."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from biorerank_plugins.evaluation import compare


def _values(numbers: list[float]) -> dict[str, float]:
    return {f"q{place}": number for place, number in enumerate(numbers)}


def test_means_and_counts_can_be_worked_out_by_hand() -> None:
    result = compare(_values([0.0, 0.5, 1.0, 0.2]), _values([1.0, 0.5, 0.5, 0.4]))
    assert (result.baseline, result.value, result.delta) == pytest.approx((0.425, 0.6, 0.175))
    assert (result.wins, result.losses) == (2, 1)
    assert result.low <= result.delta <= result.high


def test_p_value_is_that_of_all_sign_flips() -> None:
    differences = [0.3, -0.1, 0.25, 0.4, 0.05, -0.02, 0.2, 0.1]
    flips = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in product((1, -1), repeat=8)]
    exact = sum(flip >= abs(sum(differences)) - 1e-12 for flip in flips) / len(flips)
    result = compare(_values([0.0] * 8), _values(differences), resamples=100_000)
    assert result.p_value == pytest.approx(exact, abs=0.004)


def test_interval_and_p_value_agree_with_scipy() -> None:
    rng = np.random.default_rng(3)
    before, change = rng.uniform(0, 0.8, 120), rng.normal(0.03, 0.1, 120)
    result = compare(_values(list(before)), _values(list(before + change)))
    interval = stats.bootstrap((change,), np.mean, method="percentile", rng=rng).confidence_interval
    test = stats.permutation_test((change,), np.mean, permutation_type="samples", n_resamples=10_000, rng=rng)
    assert (result.low, result.high) == pytest.approx((interval.low, interval.high), abs=0.002)
    assert result.p_value == pytest.approx(test.pvalue, abs=0.005)


def test_equal_runs_differ_by_nothing() -> None:
    result = compare(_values([0.1, 0.9]), _values([0.1, 0.9]))
    assert (result.delta, result.low, result.high, result.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_a_p_value_is_never_zero() -> None:
    result = compare(_values([0.0] * 500), _values([1.0] * 500), resamples=99)
    assert result.p_value == pytest.approx(1 / 100)


def test_the_same_values_give_the_same_numbers_in_any_order() -> None:
    before, after = {"a": 0.1, "b": 0.5, "c": 0.3}, {"a": 0.2, "b": 0.3, "c": 0.9}
    assert compare(before, after) == compare(before, after)
    assert compare(dict(reversed(before.items())), after) == compare(before, after)
    assert compare(before, after).to_dict()["delta"] == compare(before, after).delta


def test_many_queries_do_not_need_all_resamples_in_memory() -> None:
    """100,000 queries times 100 resamples would be 80 MB at once; the blocks give the same kind of answer."""
    rng = np.random.default_rng(0)
    change = rng.normal(0.01, 0.1, 100_000)
    result = compare(_values([0.0] * 100_000), _values(list(change)), resamples=100)
    assert result.low < change.mean() < result.high


@pytest.mark.parametrize(("before", "after"), [({}, {}), ({"a": 1.0}, {"b": 1.0}), ({"a": 1.0}, {"a": 1.0, "b": 0.0})])
def test_runs_of_different_queries_are_refused(before: dict[str, float], after: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="same queries"):
        compare(before, after)


def test_no_resamples_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        compare({"a": 1.0}, {"a": 1.0}, resamples=0)
