"""Reliability and answerability against hand-computed values."""

from __future__ import annotations

import pytest

from biorerank_plugins.evaluation.calibrate import (
    Judged,
    answerability,
    calibrate,
    draw_reliability,
    reliability,
    reliability_of,
)
from biorerank_plugins.models.calibration import Calibration


def test_error_and_skill_by_hand():
    # two bins of two: said 0.15, so 0.5; said 0.85, so 1.0
    found = reliability([0.1, 0.9, 0.2, 0.8], [False, True, True, True], bins=2)
    assert found.ece == pytest.approx((2 * 0.35 + 2 * 0.15) / 4)
    assert found.brier == pytest.approx((0.01 + 0.01 + 0.64 + 0.04) / 4)
    assert found.brier_skill == pytest.approx(1 - found.brier / (0.75 * 0.25))
    assert (found.n, found.base_rate) == (4, 0.75)


@pytest.mark.parametrize(("p", "truth"), [([], []), ([0.1, 0.2], [True, True]), ([0.1], [True, False])])
def test_nothing_to_compare_is_refused(p, truth):
    with pytest.raises(ValueError, match="Reliability needs"):
        reliability(p, truth)


def judged(logits, relevant, repeats=None) -> Judged:
    return Judged(tuple(logits), tuple(relevant), tuple(relevant if repeats is None else repeats))


QUESTIONS = [
    judged([4.0, 1.0, 0.0], [True, False, False]),
    judged([3.0, 2.0, -1.0], [True, False, False]),
    judged([0.5, 0.0], [False, True], [True, True]),
]


def test_answerability_by_hand():
    # with evidence: 4, 3, 0.5; without: 1, 2 and nothing at all. Of the nine pairs, 0.5 loses to 1 and to 2.
    found = answerability(QUESTIONS, Calibration(), threshold=Calibration().probability(2.5))
    assert found.auroc == pytest.approx(7 / 9)
    assert (found.precision, found.abstained_with, found.abstained_without) == (1.0, pytest.approx(1 / 3), 1.0)


@pytest.mark.parametrize(("precision", "logit"), [(1.0, 3.0), (0.6, 0.5), (0.5, None)])
def test_the_threshold_is_the_lowest_that_is_precise_enough(precision: float, logit: float | None):
    threshold = answerability(QUESTIONS, Calibration(), precision=precision).threshold
    assert threshold == pytest.approx(0.0 if logit is None else Calibration().probability(logit))


def test_only_the_first_candidates_are_fitted_on():
    shallow, deep = calibrate(QUESTIONS, depth=2), calibrate(QUESTIONS, depth=3)
    assert shallow.intercept != deep.intercept
    assert reliability_of(QUESTIONS, shallow, 2).n == 6
    assert reliability_of(QUESTIONS, deep, 3).n == 8


def test_the_plot_is_a_picture(tmp_path):
    curves = {"a": reliability([0.1, 0.9, 0.2, 0.8], [False, True, True, True], bins=2)}
    draw_reliability(curves, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000
