"""What makes BERT fast on a CPU: weights laid out once for oneDNN, and attention as batched products.

Measured on an AMD EPYC (Zen 5, two cores) with torch 2.13: ``F.linear`` in fp32 runs at 0.2 TFLOP/s, since MKL does not
take its AVX512 path there, and oneDNN with prepared weights at 0.5; in bf16 it is 0.6 to 0.95 against 1.0. Torch's
``scaled_dot_product_attention`` takes four times as long as two batched products and an fp32 softmax for the short
sequences that a reranker sees. GELU in the product's own pass pays with AVX512; on a Zen 3 (AVX2 alone) oneDNN's takes
nine tenths of the product's time, and torch's, in a pass of its own, one tenth.
"""

from __future__ import annotations

import logging
import math
import threading
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from biorerank_plugins.runtime.packed.families import DistanceBias

logger = logging.getLogger(__name__)

_TYPICAL_ROWS = 1024  # rows that the layout of a weight is chosen for; any number works
_LEAST_FILL = 0.8  # a pair shorter than this share of the longest is padded to another length
_MOST_PRODUCTS = 512 * 512  # of queries and keys, a head, at once: they stay in the cache, and memory is bounded
_FINE, _COARSE = 16, 32  # steps of the lengths that pairs are padded to, up to 128 tokens and above


@cache
def can_prepare(dtype: torch.dtype) -> bool:
    """Return whether this torch has oneDNN's linear layer with prepared weights, and it computes what it should.

    The operators are those that torch's own compiler uses for frozen models. They are not documented, so they are
    tried rather than trusted.
    """
    draw = torch.Generator().manual_seed(0)
    # Not nn.Linear, which would draw from the caller's random numbers.
    weight, bias, x = (torch.randn(*shape, generator=draw).to(dtype) for shape in ((32, 48), (32,), (5, 48)))
    try:
        with torch.inference_mode():
            for gelu in (False, True):
                given = PreparedLinear(weight, bias, dtype, gelu=gelu)(x)
                expected = nn.functional.linear(x, weight, bias)
                expected = nn.functional.gelu(expected) if gelu else expected
                # Not torch.testing, which imports torch.distributed and takes a second.
                if not torch.allclose(given, expected, atol=0.2 if dtype != torch.float32 else 1e-4, rtol=0.02):
                    raise ValueError("it computes something else.")
    except Exception as error:  # whatever a torch without them, or another version of them, raises
        logger.info("No prepared weights: %s: %s", type(error).__name__, str(error).strip().split("\n")[0])
        return False
    return True


class PreparedLinear:
    """A linear layer whose weight lies in memory as oneDNN wants it, with GELU after it where asked for.

    :param weight: [out, in].
    :param dtype: precision of weight, bias and inputs.

    >>> layer = PreparedLinear(torch.eye(2), torch.ones(2), torch.float32)
    >>> layer(torch.tensor([[1.0, 2.0]]))
    tensor([[2., 3.]])
    """

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype, *, gelu: bool = False) -> None:
        operators: Any = torch.ops.mkldnn
        self._apply: Any = operators._linear_pointwise
        self._weight = operators._reorder_linear_weight(weight.detach().to(dtype).contiguous(), _TYPICAL_ROWS)
        self._bias = bias.detach().to(dtype)
        self._gelu_after = gelu and not torch.backends.cpu.get_cpu_capability().startswith("AVX512")
        # GELU comes in two forms, and is told which; the other operations take no such word.
        self._after, self._form = ("gelu", "none") if gelu and not self._gelu_after else ("none", "")

    def __call__(self, x: Tensor) -> Tensor:
        """Return the layer's output for ``x`` [rows, in]."""
        out: Tensor = self._apply(x, self._weight, self._bias, self._after, [], self._form)
        return torch.ops.aten.gelu_(out) if self._gelu_after else out


class CpuAttention:
    """Attention over packed pairs on a CPU: padded for the attention alone, in groups of similar length.

    An :data:`~biorerank_plugins.runtime.packed.bert.Attention`. How the groups lie is worked out once a batch and
    thread, and not in every layer. The products of long pairs, megabytes of them, are written to the same memory each
    time: asking the system for it anew costs more than computing them.

    oneDNN makes and keeps machine code for every shape it meets, half a megabyte each. Hence lengths in steps, and
    products of half precision in powers of two of pairs: a hundred shapes at most, whatever comes.
    """

    def __init__(self) -> None:
        self._last = _Kept()

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        in_q: Tensor,
        in_k: Tensor,
        most_q: int,
        most_k: int,
        bias: DistanceBias | None = None,
    ) -> Tensor:
        """Return what the queries read, [tokens, heads, size]."""
        # Zeros: rows that belong to no pair go through the next layers too, and tiny numbers left in them are slow.
        read = torch.zeros_like(q, memory_format=torch.contiguous_format)
        one_query_each = in_q is not in_k
        if self._last.offsets is not in_k:
            self._last.groups = _groups(in_k.numpy())
            self._last.offsets = in_k
        for group in self._last.groups:
            queries = group.pairs if one_query_each else group.places
            read[queries if one_query_each else group.tokens] = _attend(
                q.index_select(0, queries), k, v, group, self._last, bias, one_query_each=one_query_each
            )
        return read


class Memory(threading.local):
    """Memory of a thread, used again from one batch to the next: asking the system anew costs more than computing."""

    def __init__(self) -> None:
        self._memory: dict[tuple[str, torch.dtype], Tensor] = {}

    def room(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return memory for a tensor; it holds until the same name is asked for again."""
        size = math.prod(shape)
        memory = self._memory.get((name, dtype))
        if memory is None or len(memory) < size:
            self._memory[name, dtype] = memory = torch.empty(size, dtype=dtype)
        return memory[:size].view(shape)


class _Kept(Memory):
    """What a thread keeps from one layer, and one batch, to the next."""

    def __init__(self) -> None:
        super().__init__()
        self.offsets: Tensor | None = None
        self.groups: list[_Group] = []


class _Group:
    """Some of the pairs that lie between offsets, of similar length."""

    def __init__(self, offsets: NDArray[np.int32], pairs: NDArray[np.int64]) -> None:
        starts = offsets[:-1][pairs].astype(np.int64)
        lengths = np.diff(offsets)[pairs]
        self.count, self.longest = len(pairs), _rounded(int(lengths.max()))
        column = np.arange(self.longest)
        inside = column < lengths[:, None]
        # Padding repeats the first token of its pair: any row that exists will do, nobody looks at it.
        places = starts[:, None] + np.where(inside, column, 0)
        self.pairs = torch.from_numpy(pairs)
        self.places = torch.from_numpy(places.reshape(-1))
        self.tokens = torch.from_numpy(places[inside])
        self.real = None if inside.all() else torch.from_numpy(np.flatnonzero(inside))
        mask = np.where(inside, np.float32(0), np.float32(-np.inf))[:, None, None, :]
        self.mask = torch.from_numpy(mask)
        self._biased: Tensor | None = None

    def added(self, bias: DistanceBias | None) -> Tensor:
        """Return what is added to the products: -inf for padding, and the bias, the same in all layers of a batch."""
        if bias is None:
            return self.mask
        if self._biased is None:
            self._biased = self.mask + bias.between(self.longest, self.longest)
        return self._biased


def _attend(
    q: Tensor, k: Tensor, v: Tensor, group: _Group, kept: _Kept, bias: DistanceBias | None, *, one_query_each: bool
) -> Tensor:
    n, longest, (heads, size) = group.count, group.longest, q.shape[1:]
    asked = 1 if one_query_each else longest

    def by_head(x: Tensor, rows: int) -> Tensor:
        return x.view(n, rows, heads, size).transpose(1, 2).reshape(n * heads, rows, size)

    queries = by_head(q, asked)
    keys, values = (by_head(x.index_select(0, group.places), longest) for x in (k, v))
    shape = (n, heads, asked, longest)
    products = kept.room("products", shape, q.dtype)
    _multiply(queries, keys.transpose(1, 2), products.view(n * heads, asked, longest), heads)
    # In fp32: torch's softmax of bf16 takes four times as long. Scale, mask and conversion are one pass.
    masked = torch.add(
        group.added(bias)[:, :, :asked], products, alpha=size**-0.5, out=kept.room("masked", shape, torch.float32)
    )
    weights = torch.softmax(masked, -1, out=masked)
    weights = weights if q.dtype == torch.float32 else products.copy_(weights)
    read = q.new_empty(n * heads, asked, size)
    _multiply(weights.view(n * heads, asked, longest), values, read, heads)
    read = read.view(n, heads, asked, size).transpose(1, 2).reshape(n * asked, heads, size)
    return read if one_query_each or group.real is None else read.index_select(0, group.real)


def _multiply(one: Tensor, other: Tensor, out: Tensor, heads: int) -> None:
    """Write the products of two stacks of matrices, [pairs * heads, ...] each, in as few shapes as possible."""
    first, left = 0, len(one) // heads
    while left:
        pairs = left if one.dtype == torch.float32 else 1 << (left.bit_length() - 1)  # fp32 is MKL's, which keeps none
        part = slice(first * heads, (first + pairs) * heads)
        torch.bmm(one[part], other[part], out=out[part])
        first, left = first + pairs, left - pairs


def _rounded(length: int) -> int:
    step = _FINE if length <= 128 else _COARSE
    return -(-length // step) * step


def _groups(offsets: NDArray[np.int32]) -> list[_Group]:
    lengths = np.diff(offsets)
    order = np.argsort(-lengths, kind="stable")
    order = order[lengths[order] > 0]
    groups = []
    while len(order):
        longest = int(lengths[order[0]])
        alike = int(np.count_nonzero(lengths[order] >= _LEAST_FILL * longest))
        alike = min(alike, max(1, _MOST_PRODUCTS // _rounded(longest) ** 2))
        groups.append(_Group(offsets, order[:alike]))
        order = order[alike:]
    return groups
