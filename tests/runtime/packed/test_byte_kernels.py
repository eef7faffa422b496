"""Layers in int8: near the layers that they stand for, row by row, and right where bytes are added in 16 bits."""

from __future__ import annotations

import pytest
import torch
from support.fresh import run_fresh
from support.packed import needs_bytes

from biorerank_plugins.runtime.packed.byte_kernels import ByteLinear, quantized, why_no_bytes
from biorerank_plugins.runtime.packed.cpu_kernels import Memory

SHAPES = [(96, 40), (384, 384), (33, 17)]


def _layer(inner, outer, gelu=False):
    draw = torch.Generator().manual_seed(inner)
    weight, bias = torch.randn(outer, inner, generator=draw), torch.randn(outer, generator=draw)
    return weight, bias, ByteLinear(weight, bias, Memory(), gelu=gelu)


def _inputs(rows, inner):
    x = torch.randn(rows, inner, generator=torch.Generator().manual_seed(rows))
    x[:, 3] *= 20  # as transformers have them: one channel is far larger than the others
    return x


@needs_bytes
@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@torch.inference_mode()
def test_a_layer_gives_what_the_layer_gives_up_to_its_steps(shape, gelu):
    weight, bias, layer = _layer(*shape, gelu=gelu)
    for rows in (1, 3, 100):
        x = _inputs(rows, shape[0])
        expected = torch.nn.functional.linear(x, weight, bias)
        expected = torch.nn.functional.gelu(expected) if gelu else expected
        given = layer(x)
        assert 0 < float((given - expected).abs().max())
        # Half a step of the inputs and of the weights each, adding up at random.
        steps = (x.amax(1, keepdim=True) - x.amin(1, keepdim=True)) / 254, weight.abs().amax(1) * 1.5 / 127
        spread = (steps[0] ** 2 * (weight**2).sum(1) + steps[1] ** 2 * (x**2).sum(1, keepdim=True)).sqrt() * 12**-0.5
        assert bool(((given - expected).abs() <= 6 * spread + 1e-4).all())


@needs_bytes
@torch.inference_mode()
def test_a_row_does_not_depend_on_the_rows_beside_it():
    _, _, layer = _layer(96, 40)
    x = _inputs(64, 96)
    together = layer(x)
    x[10:] *= 1000
    assert torch.equal(layer(x)[:10], together[:10])
    assert torch.equal(layer(x[:10]), together[:10])


@needs_bytes
@torch.inference_mode()
def test_rows_of_zeros_and_of_no_numbers():
    _, bias, layer = _layer(96, 40)
    x = torch.zeros(3, 96)
    x[1, 5], x[2, 7] = float("inf"), float("nan")
    given = layer(x)
    torch.testing.assert_close(given[0], bias)
    assert not bool(given[1:].isfinite().any())


@pytest.mark.parametrize("shape", SHAPES)
def test_neighbouring_weights_fit_into_16_bits_and_lose_no_more_than_they_must(shape):
    weight = torch.randn(shape[1], shape[0], generator=torch.Generator().manual_seed(0))
    weight[0] = 1.0
    steps, size = quantized(weight, adds_in_16_bits=True)
    assert bool(((steps * size[:, None] - weight).abs() <= 0.5001 * size[:, None]).all())
    products = 255 * torch.nn.functional.pad(steps.int(), (0, shape[0] % 2)).view(shape[1], -1, 2).sum(2)
    assert int(products.abs().max()) < 2**15
    finer = quantized(weight, adds_in_16_bits=False)[1]
    assert bool((size >= finer).all()) and float((size / finer).mean()) < 1.7


@needs_bytes
@pytest.mark.parametrize("arithmetic", ["AVX2", "AVX512_CORE", "DEFAULT"])
def test_on_processors_that_can_do_less(arithmetic):
    """oneDNN told to use nothing newer: the products of ``AVX2`` and ``AVX512_CORE`` overflow with all of 8 bits."""
    script = """
import os, sys
os.environ["ONEDNN_MAX_CPU_ISA"] = sys.argv[1]  # read at its first product
import torch
from biorerank_plugins.runtime.packed.byte_kernels import ByteLinear, adds_in_16_bits, why_no_bytes
from biorerank_plugins.runtime.packed.cpu_kernels import Memory
assert why_no_bytes() is None, why_no_bytes()
weight, x = torch.ones(64, 96), torch.rand(32, 96, generator=torch.Generator().manual_seed(0))
with torch.inference_mode():
    off = (ByteLinear(weight, torch.zeros(64), Memory())(x) - x @ weight.t()).abs().max()
assert off < 0.5, off
print(adds_in_16_bits())
"""
    done = run_fresh(script, arithmetic)
    assert done.returncode == 0, done.stderr
    assert arithmetic == "DEFAULT" or done.stdout.strip() == "True"


def test_no_other_processors(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert why_no_bytes.__wrapped__() == "its products are made for x86, not for arm64."
