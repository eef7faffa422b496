"""What MPNet adds to the products of queries and keys: a value for each distance between them and each head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class DistanceBias:
    """The bias for all distances up to a length, in fp32 on the CPU.

    :param encoder: transformers' encoder, which has ``relative_attention_bias`` and says which row a distance has.
    :param longest: tokens of the longest pair, those of its padding included.
    """

    def __init__(self, encoder: Any, longest: int) -> None:
        self._longest = longest
        distances = torch.arange(1 - longest, longest)  # from query to key
        table = encoder.relative_attention_bias.weight.detach().float().cpu()
        self._of_distance = table[encoder.relative_position_bucket(distances)].t().contiguous()

    def between(self, queries: int, keys: int) -> Tensor:
        """Return what is added for the first so many queries and keys of a pair, [heads, queries, keys].

        :param queries: number of queries.
        :param keys: number of keys.
        """
        start = self._longest - queries
        # A row begins one distance before the row above it.
        rows: Tensor = self._of_distance[:, start : start + queries + keys - 1].unfold(1, keys, 1)
        return rows.flip(1)
