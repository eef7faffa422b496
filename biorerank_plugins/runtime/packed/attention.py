"""Attention over pairs that lie one behind the other: each token sees the tokens of its own pair only."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TypeAlias, cast

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

    # Asked only for what all versions since 2.10 take in the same way; in all of them the default is full attention.
    return cast(Attention, varlen.varlen_attn)


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
    """Attend pair by pair, as an :data:`Attention`: slow, and the oracle of the others."""
    read = q.new_zeros(q.shape)
    spans = ([slice(*ends) for ends in pairwise(offsets.tolist())] for offsets in (in_q, in_k))
    for of_q, of_k in zip(*spans, strict=True):
        if of_q.start < of_q.stop:
            queries, keys, values = (part.transpose(0, 1).unsqueeze(0) for part in (q[of_q], k[of_k], v[of_k]))
            added = None if bias is None else bias.between(queries.shape[2], keys.shape[2]).to(q.dtype)
            one = scaled_dot_product_attention(queries, keys, values, attn_mask=added)
            read[of_q] = one.squeeze(0).transpose(0, 1)
    return read
