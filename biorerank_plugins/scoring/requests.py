"""Pairs of one caller on their way through a worker: what waits, what is done, and who waits for it."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from biorerank_plugins import telemetry
from biorerank_plugins.runtime.calls import Watch
from biorerank_plugins.runtime.tokens import EncodedPair, tokens_of

Taken: TypeAlias = list[int]
"""Positions of pairs in their request."""


class PairRequest:
    """Pairs that came so far; the worker's lock is held wherever it is changed.

    :param watch: called before each batch that holds pairs of this request; it may raise to end it.
    """

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.pairs: list[EncodedPair] = []
        self.logits: NDArray[np.float32] = np.empty(0, np.float32)
        self.done = 0
        self.complete = False  # no more pairs will come
        self.result: Future[NDArray[np.float32]] = Future()
        self.waits_since: float | None = None  # when its first pairs came, until a batch has some of them
        # Shortest pair first, so that the longest is taken from the end.
        self._remaining: Taken = []
        self._lengths: list[int] = []

    @property
    def waiting(self) -> int:
        """Pairs that are in no batch yet."""
        return len(self._remaining)

    @property
    def longest(self) -> int:
        """Tokens of the longest pair that waits."""
        return self._lengths[-1]

    @property
    def answered(self) -> bool:
        """Whether nothing is left to compute, and nothing will come."""
        return self.complete and self.done == len(self.pairs)

    def add(self, pairs: Sequence[EncodedPair]) -> None:
        """Append pairs."""
        if not self.pairs:
            self.waits_since = time.perf_counter()
        positions = range(len(self.pairs), len(self.pairs) + len(pairs))
        self.pairs.extend(pairs)
        self.logits = np.concatenate([self.logits, np.empty(len(pairs), np.float32)])
        # Of equal lengths the first comes first, from the end of the list.
        self._remaining = sorted(
            [*self._remaining, *positions], key=lambda position: (len(self.pairs[position].ids), -position)
        )
        self._lengths = [len(self.pairs[position].ids) for position in self._remaining]

    def take_padded(self, room: int, longest: int) -> Taken:
        """Take up to ``room`` pairs of at most ``longest`` tokens, longest first."""
        end = bisect_right(self._lengths, longest)
        return self._take(max(0, end - room), end)

    def take_packed(self, room: int) -> Taken:
        """Take pairs of at most ``room`` tokens together, longest first."""
        start = end = bisect_right(self._lengths, room)
        while start and self._lengths[start - 1] <= room:
            start -= 1
            room -= self._lengths[start]
        return self._take(start, end)

    def _take(self, start: int, end: int) -> Taken:
        taken = self._remaining[start:end][::-1]
        del self._remaining[start:end], self._lengths[start:end]
        return taken


Batch: TypeAlias = list[tuple[PairRequest, Taken]]
"""Pairs of one or several requests that are computed together."""


def next_batch(requests: deque[PairRequest], max_tokens: int, *, padded: bool, merge: bool) -> Batch:
    """Take a batch: pairs of the request whose turn it is, then what fits of the others.

    :param requests: at least one of which waits; the one that was served goes to the end.
    :param max_tokens: tokens a batch; one pair that is longer is a batch of its own.
    :param merge: whether it may hold pairs of several requests.
    """
    first = next(request for request in requests if request.waiting)
    requests.remove(first)
    requests.append(first)
    longest = first.longest
    room = max(1, max_tokens // longest) if padded else max(longest, max_tokens)
    others = [other for other in requests if other is not first] if merge else []
    batch: Batch = []
    for request in [first, *others]:
        taken = request.take_padded(room, longest) if padded else request.take_packed(room)
        if taken:
            batch.append((request, taken))
            room -= len(taken) if padded else tokens_of(pairs_of([(request, taken)]), padded=False)
    return batch


def tell_batch(batch: Batch, *, padded: bool) -> None:
    """Measure how long the requests of a batch waited, and how large it is."""
    if not batch or not telemetry.enabled():
        return
    now = time.perf_counter()
    for request, _ in batch:
        if request.waits_since is not None:
            telemetry.record("queue.duration", now - request.waits_since)
            request.waits_since = None
    telemetry.record("batch.tokens", tokens_of(pairs_of(batch), padded=padded))


def pairs_of(batch: Batch) -> list[EncodedPair]:
    """Return the pairs of a batch, request by request."""
    return [request.pairs[position] for request, taken in batch for position in taken]
