"""Counted arithmetic, against counting by hand."""

from __future__ import annotations

import json

import pytest

from benchmarks.speed.counting import Architecture
from benchmarks.speed.random_models import SHAPES


def _by_hand(layers, hidden, intermediate, tokens):
    """Multiplications and additions of every matrix product of a layer, written out."""
    multiplications = 0
    for _ in range(layers):
        multiplications += 3 * tokens * hidden * hidden  # query, key, value
        multiplications += tokens * tokens * hidden  # scores, all heads
        multiplications += tokens * tokens * hidden  # weighted values
        multiplications += tokens * hidden * hidden  # output of attention
        multiplications += 2 * tokens * hidden * intermediate  # feed-forward, up and down
    return 2 * multiplications


@pytest.mark.parametrize("name", ["minilm-l6", "bert-base"])
@pytest.mark.parametrize("tokens", [1, 44, 512])
def test_flops_are_those_counted_by_hand(name, tokens):
    shape = SHAPES[name]
    assert shape.flops([tokens]) == _by_hand(shape.layers, shape.hidden, shape.intermediate, tokens)


def test_flops_of_pairs_add_up():
    shape = SHAPES["minilm-l6"]
    assert shape.flops([10, 20]) == shape.flops([10]) + shape.flops([20])
    assert shape.flops([]) == 0


def test_known_figures():
    assert SHAPES["minilm-l6"].flops([256]) == pytest.approx(6.04e9, rel=1e-3)
    assert SHAPES["bert-base"].flops([512]) == pytest.approx(96.64e9, rel=1e-3)


def test_sizes_are_read_from_a_folder(tiny_cross_encoder_dir, tmp_path):
    assert Architecture.of(tiny_cross_encoder_dir) == Architecture(layers=2, hidden=32, intermediate=64, heads=4)
    assert Architecture.of(tmp_path) is None
    (tmp_path / "config.json").write_text(json.dumps({"d_model": 64}))
    assert Architecture.of(tmp_path) is None
