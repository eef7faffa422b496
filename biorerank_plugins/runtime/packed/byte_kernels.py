"""Linear layers whose products are of bytes (int8): weights quantised when the model is loaded, inputs row by row.

Each output of a layer has a step of its own for its weights, and each token one for its inputs, from its smallest to
its largest value: nothing has to be fitted on texts, and a logit does not depend on the passages beside it. All between
the products is computed in fp32.

x86 CPUs without VNNI (AVX2 alone, AVX512 of the first kind) add two neighbouring products in 16 bits, and cut off what
does not fit. There the steps of an output are so wide that no two neighbouring weights can overflow.

Measured on an AMD EPYC with AVX512-VNNI and torch 2.13, one thread, layers of MiniLM-L6 with 2,048 tokens: 0.4 TFLOP/s,
against 0.22 in bf16 and 0.11 in fp32; restricted to AVX2, 0.21 against 0.10 in fp32.
"""

from __future__ import annotations

import logging
import platform
from functools import cache
from typing import Any

import torch
from torch import Tensor

from biorerank_plugins.runtime.devices import resolve_dtype
from biorerank_plugins.runtime.packed.cpu_kernels import Memory

logger = logging.getLogger(__name__)

_TYPICAL_ROWS = 1024  # rows that the layout of a weight is chosen for; any number works
_MOST = 127  # steps of a weight on each side of 0
_MOST_OF_TWO = 128  # of two neighbouring weights of one sign: 255 · 128 < 2¹⁵
_INPUT_STEPS = 254  # of 255: two roundings up may meet
_EXACT = 14  # inputs a layer whose weights are not quantised
_SMALLEST = 1e-30  # step of an input that is 0 throughout


class ByteLinear:
    """A linear layer in int8, with GELU after it where asked for; weight [out, in], inputs and outputs are fp32."""

    def __init__(self, weight: Tensor, bias: Tensor, memory: Memory, *, gelu: bool = False) -> None:
        weight = weight.detach().float()
        # A few inputs have weights far beyond the others', and make steps wide for all: they stay in fp32.
        self._exact = weight.pow(4).sum(0).topk(min(_EXACT, weight.shape[1])).indices.sort().values
        exact = weight[:, self._exact].t()
        steps, size = quantized(weight.index_fill(1, self._exact, 0), adds_in_16_bits=adds_in_16_bits())
        operators: Any = torch.ops.onednn
        self._weight = operators.qlinear_prepack(steps.contiguous(), [_TYPICAL_ROWS, weight.shape[1]])
        self._size = size
        self._no_zeros = torch.zeros(len(size), dtype=torch.int32)
        # What an input step that stands for 0 adds to each output, the bias, and what is not in bytes: in one product.
        of_zero = torch.stack([steps.sum(1, dtype=torch.float32) * size, bias.detach().float()])
        self._beside = torch.cat([of_zero, exact])
        self._memory = memory
        self._gelu = gelu

    def __call__(self, x: Tensor) -> Tensor:
        """Return the layer's output for ``x``, fp32 [rows, in]."""
        steps, size, zero = self._in_steps(x)
        out: Tensor = _product(steps, self._weight, self._size, self._no_zeros)
        beside = torch.cat([-size * zero, torch.ones_like(size), x.index_select(1, self._exact)], 1)
        out.mul_(size).addmm_(beside, self._beside)
        return torch.ops.aten.gelu_(out) if self._gelu else out

    def _in_steps(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the input in steps [rows, in], the size of a row's step, and which step stands for 0 [rows, 1]."""
        x = x.index_fill(1, self._exact, 0)
        low, high = x.amin(1, keepdim=True).clamp_(max=0), x.amax(1, keepdim=True).clamp_(min=0)
        size = ((high - low) / _INPUT_STEPS).clamp_(min=_SMALLEST)
        zero = (-low / size).round_()
        # To signed bytes, which is vectorised, and from there to unsigned ones by their highest bit.
        shifted = torch.mul(x, 1 / size, out=self._memory.room("scaled", x.shape, torch.float32)).add_(zero - 128)
        signed = self._memory.room("steps", x.shape, torch.int8).copy_(shifted.round_())
        return signed.view(torch.uint8).bitwise_xor_(128), size, zero


def quantized(weight: Tensor, *, adds_in_16_bits: bool) -> tuple[Tensor, Tensor]:
    """Return a weight [out, in] in steps, int8, and the size of a step, an output [out].

    :param adds_in_16_bits: whether two neighbouring products have to fit into 16 bits.

    >>> quantized(torch.tensor([[2.0, 2.0, -4.0, 1.0]]), adds_in_16_bits=True)
    (tensor([[  64,   64, -127,   32]], dtype=torch.int8), tensor([0.0315]))
    """
    size = weight.abs().amax(1, keepdim=True) / _MOST
    if adds_in_16_bits:
        # Of different signs, one of the two alone is the most that they can add up to.
        one, other = torch.nn.functional.pad(weight, (0, weight.shape[1] % 2)).view(len(weight), -1, 2).unbind(2)
        largest = (one + other).abs().amax(1, keepdim=True)
        size = torch.maximum(size, largest / (_MOST_OF_TWO - 1))  # both may be rounded up by half a step
    size.clamp_(min=_SMALLEST)
    return (weight / size).round_().to(torch.int8), size.squeeze(1)


@cache
def adds_in_16_bits() -> bool:
    """Return whether this CPU adds two products of bytes in 16 bits. It is tried: what it can do may be restricted."""
    return not _is_exact(_MOST)


@cache
def why_no_bytes() -> str | None:
    """Return why int8 is not possible here, as a sentence; ``None`` if it is.

    The operators are those that torch's own compiler uses for quantised models. They are not documented, so they are
    tried rather than trusted.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"its products are made for x86, not for {platform.machine()}."
    try:
        return None if _is_exact(_MOST_OF_TWO // 2) else "this torch computes something else."
    except Exception as error:  # whatever a torch without them, or another version of them, raises
        return f"this torch has no such products ({type(error).__name__}: {str(error).strip().split(chr(10))[0]})."


def bytes_if_possible(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """Return the precision, or with a warning the best one of this CPU where it is int8 and that is not possible."""
    reason = why_no_bytes() if dtype == torch.int8 else None
    if reason is None:
        return dtype
    best = resolve_dtype("auto", device)
    logger.warning("int8 is not possible here: %s Computing in %s.", reason, str(best).removeprefix("torch."))
    return best


@torch.inference_mode()
def _is_exact(most: int) -> bool:
    """Return whether products of bytes are right, with weights up to a number of steps."""
    operators: Any = torch.ops.onednn
    draw = torch.Generator().manual_seed(0)
    weight = torch.randint(-most, most + 1, (64, 96), generator=draw, dtype=torch.int8)
    weight[0], weight[1] = most, -most
    steps = torch.randint(0, 256, (32, 96), generator=draw, dtype=torch.uint8)
    steps[0] = 255
    prepared = operators.qlinear_prepack(weight, [_TYPICAL_ROWS, 96])
    no_zeros = torch.zeros(64, dtype=torch.int32)
    given = _product(steps, prepared, torch.ones(64), no_zeros)
    return torch.equal(given, steps.float() @ weight.t().float())


def _product(steps: Tensor, weight: Tensor, size: Tensor, no_zeros: Tensor) -> Tensor:
    """Return the products of steps with a prepared weight, times the size of the weight's steps, fp32."""
    operators: Any = torch.ops.onednn
    out: Tensor = operators.qlinear_pointwise(
        steps, 1.0, 0, weight, size, no_zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return out
