"""Batches of similar length under a budget of padded tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def token_budget_batches(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Group sequences so that each batch, padded to its longest, holds at most ``max_tokens`` tokens.

    Sequences are sorted by token count, longest first: little padding, and a batch that does not fit into memory fails
    at once rather than at the end. Equal lengths keep their order. A sequence above the budget is a batch by itself.

    :param lengths: tokens of each sequence, special tokens included.
    :param max_tokens: budget, at least 1.
    :returns: positions, batch by batch; each position once.

    >>> list(token_budget_batches([3, 9, 4, 2], max_tokens=9))
    [[1], [2, 0], [3]]
    """
    order = sorted(range(len(lengths)), key=lambda position: -lengths[position])
    batch: list[int] = []
    for position in order:
        if batch and (len(batch) + 1) * lengths[batch[0]] > max_tokens:
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch
