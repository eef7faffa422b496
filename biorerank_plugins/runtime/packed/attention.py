"""Attention over pairs that lie one behind the other: each token sees the tokens of its own pair only."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from biorerank_plugins.runtime.packed.cpu_kernels import CpuAttention
from biorerank_plugins.runtime.packed.families import DistanceBias

Attention: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int, int], Tensor]
"""From queries, keys and values [tokens, heads, size], the offsets of the pairs in queries and in keys (int32 [N + 1])
and the longest pair in both, to what the queries read [tokens, heads, size]. Rows outside of all pairs may hold
anything: nothing that is read depends on them. Those for a CPU also take a
:class:`~biorerank_plugins.runtime.packed.families.DistanceBias` as ``bias``."""


def attention_for(device: torch.device) -> Attention:
    """Return the attention to use on a device.

    :raises ImportError: if this torch has no attention over sequences of different lengths.
    """
    if device.type != "cuda":
        return CpuAttention()
    from torch.nn.attention import varlen

    # Only what all versions since 2.10 take in the same way; in all of them the default is full attention.
    kernel: Any = varlen.varlen_attn

    def attend(q: Tensor, k: Tensor, v: Tensor, in_q: Tensor, in_k: Tensor, most_q: int, most_k: int) -> Tensor:
        read: Tensor = kernel(q, k, v, in_q, in_k, most_q, most_k)
        return read

    return attend


def reference_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    in_q: Tensor,
    in_k: Tensor,
    most_q: int,
    most_k: int,
    bias: DistanceBias | None = None,
) -> Tensor:
    """Attend pair by pair: slow, and the oracle of the others.

    :param q: queries [tokens, heads, size].
    :param k: keys.
    :param v: values.
    :param in_q: offsets of the pairs in the queries [N + 1].
    :param in_k: offsets of the pairs in the keys [N + 1].
    :param most_q: not looked at.
    :param most_k: not looked at.
    :param bias: what is added to the products before the softmax.
    :returns: what the queries read [tokens, heads, size].
    """
    read = q.new_zeros(q.shape)
    ends_q, ends_k = in_q.tolist(), in_k.tolist()
    for of_q, of_k in zip(_spans(ends_q), _spans(ends_k), strict=True):
        if of_q.start < of_q.stop:
            queries, keys, values = _heads_first(q[of_q]), _heads_first(k[of_k]), _heads_first(v[of_k])
            added = None if bias is None else bias.between(queries.shape[2], keys.shape[2]).to(q.dtype)
            one = scaled_dot_product_attention(queries, keys, values, attn_mask=added)
            read[of_q] = one.squeeze(0).transpose(0, 1)
    return read


def _heads_first(part: Tensor) -> Tensor:
    return part.transpose(0, 1).unsqueeze(0)


def _spans(ends: list[int]) -> list[slice]:
    return [slice(start, stop) for start, stop in pairwise(ends)]
