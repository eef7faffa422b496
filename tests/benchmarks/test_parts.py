"""What is measured beside ``biorerank bench``: models with random weights, and the share of the roofline."""

from __future__ import annotations

import numpy as np
import pytest
from support.speed import Clock, request, setting_of, working

from benchmarks.common import markdown_table
from benchmarks.speed.counting import Architecture
from benchmarks.speed.parts import measure_part, with_shares
from benchmarks.speed.random_models import random_model
from benchmarks.speed.roofline import Roofline, measure_roofline
from biorerank_plugins.speed.compare import compare, scores_of
from biorerank_plugins.speed.run import Options
from biorerank_plugins.speed.systems import load_systems
from biorerank_plugins.speed.texts import Mix

SHAPE = Architecture(layers=1, hidden=2, intermediate=4, heads=1)


def _compared():
    clock = Clock()
    requests = [request([f"{number} {text}" for text in range(4)]) for number in range(3)]
    return compare({"predict": working(clock, lambda _: 2.0)}, requests, mix=Mix.parse("150"), clock=clock)


def test_the_share_of_the_roofline_is_of_the_counted_work():
    work = SHAPE.flops([10] * 4)
    found = with_shares(_compared(), SHAPE, Roofline({"float32": work}, {"float32": "torch"}, 1.0))
    assert found["operations_a_round"] == work
    assert found["systems"]["predict"]["share_of_roofline"] == pytest.approx(0.5)


def test_without_a_roofline_or_an_architecture_no_share_is_given():
    for sizes, roofline in ((None, None), (SHAPE, None), (SHAPE, Roofline({"int8": 1.0}, {}, 1.0))):
        assert with_shares(_compared(), sizes, roofline)["systems"]["predict"]["share_of_roofline"] is None


def test_the_device_is_measured():
    found = measure_roofline("cpu", 1, seconds=0.01, sizes=(64,))
    assert found.operations["float32"] > 1e6
    assert found.operations["bfloat16"] > 1e6
    assert set(found.by.values()) <= {"torch", "onnxruntime"}
    assert found.copied > 1e6
    assert found.share(found.operations["float32"], 2.0, "float32") == pytest.approx(0.5)
    assert found.share(1.0, 1.0, "float8") is None


def test_a_model_with_random_weights_has_the_shape(tmp_path):
    shape = Architecture(layers=1, hidden=32, intermediate=48, heads=2)
    scores = []
    for name in ("one", "two"):
        folder = random_model(shape, tmp_path / name)
        assert Architecture.of(folder) == shape
        systems, _ = load_systems(["predict"], setting_of(folder, tmp_path))
        scores.append(scores_of(systems["predict"], request()))
    np.testing.assert_array_equal(*scores)


def test_a_shape_has_random_weights():
    options = Options(rounds=1, candidates=(2,), systems=("ours-packed-float32",))
    found = measure_part(options, shape="minilm-l6", with_roofline=False)
    model = found["model"]
    assert (model["name"], model["random_weights"], model["layers"], model["hidden"]) == ("minilm-l6", True, 6, 384)
    assert found["roofline"] is None and found["comparisons"][0]["operations_a_round"] > 0


def test_a_table_in_markdown():
    assert markdown_table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
