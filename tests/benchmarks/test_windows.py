"""Calibration by group, against the calibration of each group by itself."""

from __future__ import annotations

import pytest

from benchmarks.quality.windows import reliability_by
from biorerank_plugins.evaluation.calibrate import reliability


def test_each_group_is_compared_by_itself():
    groups = ["short", "long", "short", "long", "short", "one kind"]
    said = [0.1, 0.9, 0.8, 0.4, 0.2, 0.7]
    truth = [False, True, True, False, True, True]
    found = reliability_by(groups, said, truth, 2)
    assert list(found) == ["short", "long"]  # a group with one kind of truth says nothing of calibration
    assert found["short"] == reliability([0.1, 0.8, 0.2], [False, True, True], 2)
    # By hand: 0.4 was said where nothing was so, 0.9 where it was.
    assert found["long"].ece == pytest.approx((0.4 + 0.1) / 2)
    assert (found["long"].n, found["long"].base_rate) == (2, 0.5)


def test_all_in_one_group_is_the_whole():
    said, truth = [0.1, 0.9, 0.2, 0.8], [False, True, True, True]
    assert reliability_by([0] * 4, said, truth, 2) == {0: reliability(said, truth, 2)}
