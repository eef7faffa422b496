"""Fusion of two rankings, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from biorerank_plugins.first_stage.fusion import Hybrid, reciprocal_rank_fusion, weighted_sum


def test_reciprocal_ranks_are_added() -> None:
    fused = reciprocal_rank_fusion([["a", "b", "c"], ["c", "d"], []])
    assert fused == {
        "c": pytest.approx(1 / 63 + 1 / 61),
        "a": pytest.approx(1 / 61),
        "b": pytest.approx(1 / 62),
        "d": pytest.approx(1 / 62),
    }
    assert list(fused) == ["c", "a", "b", "d"]  # b and d tie: b was seen first
    assert reciprocal_rank_fusion([]) == {}


def test_k_says_how_much_the_first_ranks_stand_out() -> None:
    lists = [["a", "b", "c"], ["b", "d", "e"], ["c", "b", "a"]]
    assert reciprocal_rank_fusion([["a", "b"]], k=0) == {"a": 1.0, "b": 0.5}
    assert next(iter(reciprocal_rank_fusion(lists, k=0))) == "b"
    with pytest.raises(ValueError, match="k must be a whole number of at least 0, got -1"):
        reciprocal_rank_fusion(lists, k=-1)


def test_the_weighted_sum_takes_bm25_as_a_share_of_the_best() -> None:
    fused = weighted_sum([0.9, 0.5, -0.2], [0.0, 8.0, 2.0], 0.4)
    assert fused.tolist() == pytest.approx([0.9, 0.5 + 0.4, -0.2 + 0.4 * 0.25])
    assert weighted_sum([0.9, 0.5], [0.0, 8.0], 0).tolist() == [0.9, 0.5]
    assert weighted_sum([0.9, 0.5], [0.0, 0.8], 0.4).tolist() == [0.9, 0.9]  # however low the best is
    assert weighted_sum([0.9, 0.5], [0.0, 0.0], 3).tolist() == [0.9, 0.5]
    assert weighted_sum([], [], 3).tolist() == []
    assert weighted_sum(np.float32([1]), np.float32([2]), 0.5).dtype == np.float64


@pytest.mark.parametrize(
    "options",
    [
        {"method": "sum"},
        {"method": "weighted"},
        {"method": "weighted", "lexical_weight": -1},
        {"method": "weighted", "lexical_weight": float("nan")},
        {"method": "weighted", "lexical_weight": "0.3"},
        {"method": "weighted", "lexical_weight": 1e6 + 1},
        {"method": "rrf", "lexical_weight": 0.3},
        {"depth": 0},
        {"depth": True},
    ],
)
def test_an_impossible_fusion_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"method|lexical_weight|depth"):
        Hybrid(**options)  # type: ignore[arg-type]


def test_zero_is_a_weight_and_depth_is_not_compared() -> None:
    assert Hybrid("weighted", 0).lexical_weight == 0
    assert Hybrid("weighted", 1e6).lexical_weight == 1e6
    assert Hybrid("weighted", 0.3, depth=5) == Hybrid("weighted", 0.3)
    assert Hybrid("weighted", 0.3) != Hybrid("weighted", 0.4)
