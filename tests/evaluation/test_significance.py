"""The interval and the p-value, against exact enumeration and scipy."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from biorerank_plugins.evaluation import compare, corrected
from biorerank_plugins.evaluation.significance import interval


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
    from scipy import stats

    rng = np.random.default_rng(3)
    before, change = rng.uniform(0, 0.8, 120), rng.normal(0.03, 0.1, 120)
    result = compare(_values(list(before)), _values(list(before + change)))
    interval = stats.bootstrap((change,), np.mean, method="percentile", rng=rng).confidence_interval
    test = stats.permutation_test((change,), np.mean, permutation_type="samples", n_resamples=10_000, rng=rng)
    assert (result.low, result.high) == pytest.approx((interval.low, interval.high), abs=0.002)
    assert result.p_value == pytest.approx(test.pvalue, abs=0.005)


def test_the_t_test_is_that_of_scipy_and_the_bootstrap_is_near() -> None:
    from scipy import stats

    rng = np.random.default_rng(4)
    before, change = rng.uniform(0, 0.8, 150), rng.normal(0.012, 0.1, 150)
    result = compare(_values(list(before)), _values(list(before + change)))
    assert result.p_t == pytest.approx(stats.ttest_rel(before + change, before).pvalue)
    assert result.p_bootstrap == pytest.approx(result.p_t, abs=0.02)


@pytest.mark.parametrize(("numbers", "expected"), [([0.0, 0.0], 1.0), ([0.5], 1.0), ([0.5, 0.5, 0.5], 0.0)])
def test_a_t_test_without_spread_does_not_fail(numbers: list[float], expected: float) -> None:
    assert compare(_values([0.0] * len(numbers)), _values(numbers)).p_t == expected


def test_holm_by_hand() -> None:
    """Of p = 0.01, 0.04, 0.03: 3 x 0.01, then 2 x 0.03, then 1 x 0.04, which may not fall below the one before it."""
    rng = np.random.default_rng(0)
    one = compare(_values([0.0] * 5), _values(list(rng.uniform(size=5))))
    given = {
        name: replace(one, p_value=p, p_bootstrap=1.0, p_t=0.5)
        for name, p in zip("abc", (0.01, 0.04, 0.03), strict=True)
    }
    result = corrected(given)
    assert {name: c.holm["p_value"] for name, c in result.items()} == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert {c.holm["p_bootstrap"] for c in result.values()} == {c.holm["p_t"] for c in result.values()} == {1.0}
    assert corrected({"a": one})["a"].holm["p_t"] == one.p_t
    assert list(result) == ["a", "b", "c"]


def test_the_interval_of_a_mean_agrees_with_scipy() -> None:
    from scipy import stats

    values = np.random.default_rng(1).uniform(size=200)
    expected = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(2))
    low, high = expected.confidence_interval
    assert interval(list(values)) == pytest.approx((low, high), abs=0.004)


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
