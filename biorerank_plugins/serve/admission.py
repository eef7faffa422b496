"""Who is let in: work under way is bounded, and a request that cannot be answered in time is told at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from biorerank_plugins.serve.answers import RefusedError
from biorerank_plugins.serve.limits import Limits

_KEPT = 0.9  # of what earlier requests say about the rate, a request
_MARGIN = 0.8  # of the deadline: the rate is an estimate
_LONGEST_WAIT = 60


class Admission:
    """Places of pairs under way; used on the event loop only.

    :param limits: how many, and how long an answer may take.
    :param clock: seconds.

    >>> admission = Admission(Limits(max_waiting=10))
    >>> with admission.place(8):
    ...     admission.waiting
    8
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._since = 0.0
        self._pairs = 0.0
        self._seconds = 0.0
        self.waiting = 0

    @property
    def rate(self) -> float | None:
        """Pairs a second of late; ``None`` if nothing was scored yet."""
        return self._pairs / self._seconds if self._seconds > 0 and self._pairs > 0 else None

    def refuse_full(self) -> None:
        """Refuse a request before it is read, if there is no room for any.

        :raises RefusedError: with status 429.
        """
        if self.waiting >= self._limits.max_waiting:
            raise self._busy()

    @contextmanager
    def place(self, pairs: int) -> Iterator[None]:
        """Hold places while the body runs.

        :param pairs: how many.
        :raises RefusedError: with status 413 for more than the server ever takes, with 429 if others hold too many, or
            if the answer would come too late.
        """
        limit = self._limits.max_waiting
        if pairs > limit:
            raise RefusedError(
                413, "too_large", f"The request is of {pairs} pairs, and this server takes {limit}. Send less at once."
            )
        if self.waiting and (self.waiting + pairs > limit or self._too_late(pairs)):
            raise self._busy()
        if not self.waiting:
            self._since = self._clock()
        self.waiting += pairs
        try:
            yield
        except BaseException:
            self.waiting -= pairs
            raise
        self.waiting -= pairs
        self._note(pairs)

    def _note(self, pairs: int) -> None:
        now = self._clock()
        self._pairs = _KEPT * self._pairs + pairs
        self._seconds = _KEPT * self._seconds + now - self._since
        self._since = now

    def _too_late(self, pairs: int) -> bool:
        rate = self.rate
        return rate is not None and (self.waiting + pairs) / rate > _MARGIN * self._limits.deadline

    def _busy(self) -> RefusedError:
        rate = self.rate
        seconds = 1 if rate is None else min(_LONGEST_WAIT, max(1, math.ceil(self.waiting / rate)))
        message = f"The server has {self.waiting} pairs under way, and cannot take more in time. Try again later."
        return RefusedError(429, "overloaded", message, seconds)
