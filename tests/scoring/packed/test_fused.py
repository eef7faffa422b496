"""Adding and normalising in one kernel: its arithmetic, and what happens where it cannot run."""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from biorerank_plugins.scoring.packed.fused import add_norm, fused_add_norm


def test_the_plain_way_is_torchs_layer_norm_of_the_sum():
    torch.manual_seed(0)
    one, other = torch.randn(5, 48), torch.randn(5, 48)
    norm = nn.LayerNorm(48, eps=1e-7)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    torch.testing.assert_close(add_norm(one, other, norm.weight, norm.bias, 1e-7), norm(one + other))


def test_where_the_kernel_cannot_run_torch_does(caplog):
    with caplog.at_level(logging.INFO, logger="biorerank_plugins"):
        assert fused_add_norm(torch.device("cpu")) is add_norm
    assert "No fused layer norm" in caplog.text


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not here")
def test_the_kernel_gives_what_torch_gives():
    """In Triton's interpreter, which needs no GPU; rows that are no power of two long."""
    code = """
import torch
from biorerank_plugins.scoring.packed.fused import _triton_add_norm, add_norm
fused = _triton_add_norm()
draw = torch.Generator().manual_seed(0)
for hidden, dtype in ((384, torch.float32), (48, torch.float16), (1024, torch.float32)):
    one, other = (torch.randn(5, hidden, generator=draw).to(dtype) for _ in range(2))
    weight, bias = (torch.randn(hidden, generator=draw).to(dtype) for _ in range(2))
    expected = add_norm(one.float(), other.float(), weight.float(), bias.float(), 1e-12)
    given = fused(one, other, weight, bias, 1e-12)
    assert given.dtype == dtype
    close = 1e-5 if dtype == torch.float32 else 5e-3
    torch.testing.assert_close(given.float(), expected, atol=close, rtol=close)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ | {"TRITON_INTERPRET": "1"},
    )
    assert done.returncode == 0, done.stderr
