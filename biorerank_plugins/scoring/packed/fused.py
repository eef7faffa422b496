"""Two steps of a layer in one pass over memory: on a GPU, a small model spends its time moving activations."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

logger = logging.getLogger(__name__)

__all__ = ["AddNorm", "add_norm", "fused_add_norm"]

AddNorm: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]
"""From two tensors [rows, hidden], weight and bias [hidden] and epsilon to the normalised sum."""


def add_norm(one: Tensor, other: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """Return the layer norm of a sum, as torch computes it.

    :param one: [rows, hidden].
    :param other: [rows, hidden].
    :param weight: [hidden].
    :param bias: [hidden].
    :param epsilon: what is added to the variance.
    """
    return layer_norm(one + other, weight.shape, weight, bias, epsilon)


@cache
def fused_add_norm(device: torch.device) -> AddNorm:
    """Return the layer norm of a sum as one Triton kernel; :func:`add_norm` where that does not work.

    Triton compiles when it is first called, and needs a C compiler for it. So it is tried once, against torch.

    :param device: the CUDA device.
    """
    try:
        kernel = _triton_add_norm()
        draw = torch.Generator().manual_seed(0)
        one, other = (torch.randn(7, 48, generator=draw).to(device, torch.float16) for _ in range(2))
        weight, bias = (torch.randn(48, generator=draw).to(device, torch.float16) for _ in range(2))
        given, expected = (norm(one, other, weight, bias, 1e-12) for norm in (kernel, add_norm))
        torch.testing.assert_close(given, expected, atol=1e-2, rtol=1e-2)
    except Exception as error:  # whatever Triton, the C compiler or the driver raise
        logger.info("No fused layer norm: %s: %s", type(error).__name__, str(error).strip().split("\n")[0])
        return add_norm
    return kernel


tl: Any = None  # the language that the kernel is written in, once it is there


def _triton_add_norm() -> AddNorm:
    global tl
    triton, tl = (importlib.import_module(name) for name in ("triton", "triton.language"))
    kernel = triton.jit(_add_norm_kernel)

    def fused(one: Tensor, other: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        rows, hidden = one.shape
        one, other = one.contiguous(), other.contiguous()
        out = torch.empty_like(one)
        block = 1 << (hidden - 1).bit_length()
        warps = min(8, max(1, block // 256))
        kernel[(rows,)](one, other, weight, bias, out, hidden, epsilon, BLOCK=block, num_warps=warps)
        return out

    return fused


def _add_norm_kernel(one, other, weight, bias, out, hidden, epsilon, BLOCK: tl.constexpr):  # type: ignore  # noqa
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < hidden
    at = row * hidden + columns
    total = tl.load(one + at, mask=inside, other=0.0).to(tl.float32)
    total += tl.load(other + at, mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(total, axis=0) / hidden
    centred = tl.where(inside, total - mean, 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, axis=0) / hidden + epsilon)
    factor = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    shift = tl.load(bias + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + at, (centred * scale * factor + shift).to(out.dtype.element_ty), mask=inside)
