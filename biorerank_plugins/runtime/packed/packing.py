"""Pairs one behind the other in one buffer, without padding; their positions and segments are as in a padded batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biorerank_plugins.runtime.tokens import EncodedPair

Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Layout:
    """The sizes of a packed batch, which lies in one int32 buffer: one copy brings it to a device.

    :param longest: tokens of the longest pair, or more.
    """

    tokens: int
    pairs: int
    longest: int

    @classmethod
    def of(cls, pairs: Sequence[EncodedPair]) -> Layout:
        """Return the layout in which pairs fit exactly."""
        lengths = [len(pair.ids) for pair in pairs]
        return cls(sum(lengths), len(lengths), max(lengths))

    @property
    def size(self) -> int:
        """Entries of the buffer."""
        return 2 * self.tokens + 2 * (self.pairs + 1)

    def split(self, flat: Any) -> tuple[Any, Any, Any, Any]:
        """Return the parts of a buffer, which share its memory.

        :param flat: array or tensor of int32 with at least :attr:`size` entries.
        :returns: token ids [T]; rows of the table of positions and segments [T]; where each pair begins, and where the
            last one ends [N + 1]; the same for one token a pair: 0, 1, …, N [N + 1].
        """
        t, n = self.tokens, self.pairs + 1
        return flat[:t], flat[t : 2 * t], flat[2 * t : 2 * t + n], flat[2 * t + n : 2 * t + 2 * n]


@dataclass(frozen=True, slots=True)
class Places:
    """From position and segment of a token to a row of one table: ``segment * n_positions + position``.

    :param n_positions: rows of the model's table of positions.
    :param has_types: whether the model is given segment ids; without them all are 0.
    :param padding: id of the padding token where positions are counted from behind it, as in RoBERTa's family.
    """

    n_words: int
    n_positions: int
    n_types: int
    has_types: bool = True
    padding: int | None = None

    @property
    def longest(self) -> int:
        """Tokens of the longest pair that the model has positions for."""
        return self.n_positions - (0 if self.padding is None else self.padding + 1)

    def positions(self, ids: Ints, offsets: Ints) -> Ints:
        """Return the position of each token in its pair, as the model counts them."""
        starts, lengths = offsets[:-1], np.diff(offsets)
        if self.padding is None:
            return np.arange(len(ids), dtype=np.int32) - np.repeat(starts, lengths)
        # A text may hold the padding token itself, which has no position and does not count.
        counted = ids != self.padding
        before = np.concatenate([np.zeros(1, np.int32), np.cumsum(counted, dtype=np.int32)])
        return np.where(counted, before[1:] - np.repeat(before[starts], lengths), 0).astype(np.int32) + self.padding


def rounded(exact: Layout) -> Layout:
    """Return the layout with rounded sizes for a CPU: oneDNN keeps code, up to a megabyte, for each number of rows.

    At most 63 tokens are added, 15 below 256.

    >>> rounded(Layout(tokens=1_990, pairs=30, longest=180))
    Layout(tokens=2048, pairs=32, longest=180)
    """
    step = 16 if exact.tokens <= 256 else 64
    return Layout(tokens=-(-exact.tokens // step) * step, pairs=-(-exact.pairs // 8) * 8, longest=exact.longest)


def packed(pairs: Sequence[EncodedPair], places: Places, layout: Layout) -> Ints:
    """Return a buffer with pairs in it; what the layout has room for beyond them becomes pairs of no tokens.

    :param pairs: the batch, at least one pair.
    :param layout: sizes, at least those of the pairs.
    :raises ValueError: if a pair does not fit the model: too long, or with ids it does not know. On a GPU such an index
        would end the whole process.
    """
    flat = np.empty(layout.size, np.int32)
    ids, where, offsets, rows = layout.split(flat)
    lengths = np.fromiter((len(pair.ids) for pair in pairs), np.int32, len(pairs))
    used = int(lengths.sum())
    np.concatenate([pair.ids for pair in pairs], out=ids[:used])
    offsets[0] = 0
    np.cumsum(lengths, out=offsets[1 : len(pairs) + 1])
    offsets[len(pairs) + 1 :] = used
    rows[:] = np.minimum(np.arange(len(rows)), len(pairs))
    _refuse_foreign(ids[:used], int(lengths.max()), places)
    where[:used] = places.positions(ids[:used], offsets[: len(pairs) + 1])
    if places.has_types:
        types = np.concatenate([pair.types for pair in pairs])
        if int(types.max()) >= places.n_types:
            raise ValueError(f"A segment id is {types.max()}; the model knows {places.n_types} segments.")
        where[:used] += np.multiply(types, places.n_positions, dtype=np.int32)
    ids[used:] = where[used:] = 0
    return flat


def _refuse_foreign(ids: Ints, longest: int, places: Places) -> None:
    if longest > places.longest:
        raise ValueError(f"A pair has {longest} tokens; the model has positions for {places.longest}.")
    if int(ids.min()) < 0 or int(ids.max()) >= places.n_words:
        raise ValueError(
            f"Token ids reach from {ids.min()} to {ids.max()}; the model knows 0 to {places.n_words - 1}. "
            "The tokenizer belongs to another model."
        )
