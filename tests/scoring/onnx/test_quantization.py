"""int8 scales: outlier channels, ranges, what is left in fp32, and the integers themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.packed import CPU, make_model, make_pairs

from biorerank_plugins.runtime.devices import adds_bytes_exactly
from biorerank_plugins.scoring.onnx.quantization import (
    MOST_STEPS,
    SAFE_STEPS,
    QuantizedLinear,
    fit_linear,
    fit_quantization,
)
from biorerank_plugins.scoring.torch_backend import TorchBackend


def _computed(scales: QuantizedLinear, rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The integer product as its definition says, in whole numbers."""
    product = scales.apply(weight)
    steps = np.round(rows * product.input_factor / product.input_scale) + product.input_zero
    inputs = np.clip(steps, 0, 255).astype(np.int64) - int(product.input_zero)
    return (inputs @ product.weight.astype(np.int64)) * product.input_scale * product.weight_scale


@pytest.fixture
def layer() -> tuple[np.ndarray, np.ndarray]:
    """Inputs [500, 32], two channels of which are a hundred times larger than the others, and a weight [16, 32]."""
    draw = np.random.default_rng(0)
    rows, weight = draw.normal(size=(500, 32)), draw.normal(size=(16, 32))
    rows[:, [3, 20]] *= 100
    return rows.astype(np.float32), weight.astype(np.float32)


def test_the_error_that_is_stated_is_that_of_the_integer_product(layer):
    rows, weight = layer
    fitted = fit_linear(rows, rows.min(0), rows.max(0), weight)
    expected = rows @ weight.T
    error = np.sqrt(np.mean((_computed(fitted, rows, weight) - expected) ** 2)) / expected.std()
    assert fitted.error == pytest.approx(error, rel=0.02)


def test_outlier_channels_cost_less_than_with_one_scale_for_all(layer):
    rows, weight = layer
    plain = QuantizedLinear(np.ones(32, np.float32), float(rows.min()), float(rows.max()), 0.0)
    fitted = fit_linear(rows, rows.min(0), rows.max(0), weight)
    small = np.setdiff1d(np.arange(32), [3, 20])  # what the outliers drown
    only_small = np.where(np.isin(np.arange(32), small), rows, 0).astype(np.float32)
    off = [np.abs(_computed(scales, only_small, weight) - only_small @ weight.T).mean() for scales in (plain, fitted)]
    assert off[1] < 0.5 * off[0]


def test_zero_stays_zero(layer):
    rows, weight = layer
    fitted = fit_linear(rows, rows.min(0), rows.max(0), weight)
    assert not _computed(fitted, np.zeros((2, 32), np.float32), weight).any()


def test_channels_and_weights_that_are_all_zero_do_no_harm():
    rows, weight = np.zeros((10, 4), np.float32), np.zeros((3, 4), np.float32)
    fitted = fit_linear(rows, rows.min(0), rows.max(0), weight)
    assert np.isfinite(fitted.factors).all() and not _computed(fitted, rows, weight).any()


def test_each_layer_gets_scales_and_a_bad_one_stays_in_fp32():
    model = make_model()
    backend = TorchBackend(model, device=CPU, dtype=torch.float32, pad_id=0, has_types=True)
    pairs = make_pairs(*range(4, 20))
    layers = model.bert.encoder.layer
    every = fit_quantization(layers, pairs, backend.forward, largest_error=1.0)
    assert set(every) == {f"{number}.{name}" for number in range(3) for name in ("qkv", "out", "up", "down")}
    limit = float(np.median([scales.error for scales in every.values()]))
    good = fit_quantization(layers, pairs, backend.forward, largest_error=limit)
    assert set(good) == {name for name, scales in every.items() if scales.error <= limit}
    assert not any(module._forward_pre_hooks for module in model.modules())


def _added_in_16_bits(scales: QuantizedLinear, rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The same product on a CPU without VNNI: two products of bytes are added in 16 bits, and cut where they end."""
    product = scales.apply(weight)
    inputs = np.clip(np.round(rows * product.input_factor / product.input_scale) + product.input_zero, 0, 255)
    every = inputs.astype(np.int64)[:, :, None] * product.weight.astype(np.int64)[None]
    two = np.clip(every[:, 0::2] + every[:, 1::2], -32_768, 32_767).sum(axis=1)
    off = int(product.input_zero) * product.weight.astype(np.int64).sum(axis=0)
    return (two - off) * product.input_scale * product.weight_scale


def test_few_enough_steps_add_up_on_a_cpu_without_vnni(layer):
    """Of all steps some sums overflow there; of the safe number none does, whatever the input."""
    rows, _ = layer
    weight = np.sign(np.random.default_rng(1).normal(size=(16, 32))).astype(np.float32)  # every weight at its limit
    most = fit_linear(rows, rows.min(0), rows.max(0), weight, MOST_STEPS)
    safe = fit_linear(rows, rows.min(0), rows.max(0), weight, SAFE_STEPS)
    assert not np.allclose(_added_in_16_bits(most, rows, weight), _computed(most, rows, weight))
    np.testing.assert_allclose(_added_in_16_bits(safe, rows, weight), _computed(safe, rows, weight))
    assert int(np.abs(safe.apply(weight).weight).max()) <= SAFE_STEPS


def test_safe_steps_cost_little(layer):
    rows, weight = layer
    most, safe = (fit_linear(rows, rows.min(0), rows.max(0), weight, steps) for steps in (MOST_STEPS, SAFE_STEPS))
    assert most.error < safe.error < 2.5 * most.error


@pytest.mark.parametrize(
    ("machine", "flags", "exact"),
    [
        ("x86_64", "fma avx2 bmi2", False),  # Zen 3
        ("x86_64", "avx2 avx512f avx512bw", False),  # Skylake-X
        ("x86_64", "avx2 avx512f avx512_vnni", True),
        ("AMD64", "avx2 avx_vnni", True),
        ("x86_64", "", False),  # nothing is known
        ("x86_64", "not_avx512_vnni_at_all", False),
        ("aarch64", "asimd", True),
        ("arm64", "", True),
    ],
)
def test_which_cpus_add_bytes_exactly(machine: str, flags: str, exact: bool):
    assert adds_bytes_exactly(machine, flags) is exact
