"""Arithmetic that a BERT-like encoder needs: counted, to say how much of what the machine can do is reached."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Architecture"]


@dataclass(frozen=True, slots=True)
class Architecture:
    """The sizes of an encoder that its arithmetic depends on.

    :param layers: encoder layers.
    :param hidden: width of a token's vector.
    :param intermediate: width inside the feed-forward part.
    :param heads: attention heads.

    >>> Architecture(layers=6, hidden=384, intermediate=1536, heads=12).flops([128]) / 1e9
    2.868903936
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int

    @classmethod
    def of(cls, folder: Path) -> Architecture | None:
        """Read the sizes from a model folder; ``None`` if its configuration does not have BERT's names for them.

        :param folder: a folder with ``config.json``.
        """
        names = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads")
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        sizes = [config.get(name) for name in names]
        return cls(*sizes) if all(isinstance(size, int) and size > 0 for size in sizes) else None

    def flops(self, lengths: Iterable[int]) -> float:
        """Return the floating-point operations of one pass over pairs, a multiplication and an addition counted as two.

        Matrix products of all layers; embeddings, normalisation and the head are left out, and so is all padding: what
        a system computes on padding is not work that was asked for.

        :param lengths: tokens of each pair.
        """
        h, i = self.hidden, self.intermediate
        return float(sum(self.layers * (8 * h * h * s + 4 * h * i * s + 4 * s * s * h) for s in lengths))
