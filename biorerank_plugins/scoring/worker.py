"""One thread a model: requests that wait at the same time share batches, and none of them waits for all of another.

Callers hand in encoded pairs and wait. The worker serves them in turn, one batch each, longest pairs first; what a
request leaves free in its batch is filled with pairs of the others where that is asked for. On a GPU it turns many
small requests into few large batches. On a CPU one request fills its batches by itself, and the last bits of a logit,
which differ with the pairs beside it, stay the same whatever else is going on. A request that fails fails alone.
"""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from biorerank_plugins.errors import ScoringError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biorerank_plugins.scoring import Check
    from biorerank_plugins.scoring.tokens import EncodedPair

logger = logging.getLogger(__name__)

__all__ = ["BatchWorker"]

MAX_WAITING = 200_000
"""Pairs that may wait; callers that bring more are held up until there is room."""


@dataclass(eq=False)
class _Request:
    pairs: Sequence[EncodedPair]
    check: Check
    logits: NDArray[np.float32]
    remaining: list[int]  # positions, shortest pair first: the longest is taken from the end
    lengths: list[int]  # their lengths
    done: int = 0
    result: Future[NDArray[np.float32]] = field(default_factory=Future)

    @classmethod
    def of(cls, pairs: Sequence[EncodedPair], check: Check) -> _Request:
        # Of equal lengths the first comes first, from the end of the list.
        order = sorted(range(len(pairs)), key=lambda position: (len(pairs[position].ids), -position))
        lengths = [len(pairs[position].ids) for position in order]
        return cls(pairs, check, np.empty(len(pairs), dtype=np.float32), order, lengths)

    def take(self, room: int, longest: int) -> list[int]:
        """Take up to ``room`` pairs of at most ``longest`` tokens, longest first."""
        end = bisect_right(self.lengths, longest)
        start = max(0, end - room)
        taken = self.remaining[start:end][::-1]
        del self.remaining[start:end], self.lengths[start:end]
        return taken


class BatchWorker:
    """Runs batches of one model in a thread of its own.

    :param forward: from one batch to its logits, float32 [n].
    :param max_batch_tokens: padded tokens a batch; halved, for good, when memory runs out.
    :param merge: whether a batch may hold pairs of several requests.
    :param max_waiting: pairs that may wait.
    :param idle_seconds: without work the thread ends after so long, so that a model that nobody closed can be
        collected; the next request starts it again.
    """

    def __init__(
        self,
        forward: Callable[[Sequence[EncodedPair]], NDArray[np.float32]],
        max_batch_tokens: int,
        *,
        merge: bool = True,
        max_waiting: int = MAX_WAITING,
        idle_seconds: float = 5.0,
    ) -> None:
        self.max_batch_tokens = max_batch_tokens
        self._forward = forward
        self._merge = merge
        self._max_waiting = max_waiting
        self._idle_seconds = idle_seconds
        self._requests: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        _ALL.add(self)

    def run(self, pairs: Sequence[EncodedPair], check: Check) -> NDArray[np.float32]:
        """Return the logits of pairs, float32 [n], in the same order.

        :param pairs: encoded pairs.
        :param check: called before each batch that holds pairs of this request, in the worker's thread; what it raises
            ends the request and is raised here.
        :raises RuntimeError: if the worker is closed.
        :raises ScoringError: if not even one pair fits into memory.
        """
        if not pairs:
            return np.empty(0, dtype=np.float32)
        request = _Request.of(pairs, check)
        with self._changed:
            # A request larger than the whole queue is let in when nothing else waits.
            self._changed.wait_for(
                lambda: self._closed or not self._requests or self._waiting() + len(pairs) <= self._max_waiting
            )
            self._refuse_if_closed()
            self._requests.append(request)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="biorerank-scoring", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        try:
            return request.result.result()
        except BaseException:
            self._forget(request)  # Ctrl-C while waiting: nobody wants the rest
            raise

    def close(self) -> None:
        """End the thread, after the batch it runs; requests that wait raise. Closing twice is fine."""
        with self._changed:
            thread = self._thread
            self._closed = True
            while self._requests:
                self._finish(self._requests[0], RuntimeError("This reranker was closed while it was scoring."))
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _waiting(self) -> int:
        return sum(len(request.remaining) for request in self._requests)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise RuntimeError("This reranker is closed.")

    def _serve(self) -> None:
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._closed or self._requests, timeout=self._idle_seconds) or (
                    self._closed
                ):
                    self._thread = None
                    return
                batch = self._next_batch()
            if batch:
                self._run(batch)

    def _next_batch(self) -> list[tuple[_Request, list[int]]]:
        """Take a batch: pairs of the request whose turn it is, then what fits of the others."""
        first = self._requests[0]
        self._requests.rotate(-1)
        longest = first.lengths[-1]
        room = max(1, self.max_batch_tokens // longest)
        batch = []
        others = [other for other in self._requests if other is not first] if self._merge else []
        for request in [first, *others]:
            taken = request.take(room, longest) if room else []
            if taken:
                room -= len(taken)
                batch.append((request, taken))
        return [part for part in batch if self._may_go_on(*part)]

    def _may_go_on(self, request: _Request, taken: list[int]) -> bool:
        try:
            request.check(request.done)
        except BaseException as error:  # a time limit, or whatever the caller's progress bar raises
            self._finish(request, error)
            return False
        return True

    def _run(self, batch: list[tuple[_Request, list[int]]]) -> None:
        try:
            logits = self._logits([request.pairs[position] for request, taken in batch for position in taken])
        except BaseException as error:
            if len(batch) > 1:  # whose pairs they were is not known: each on its own
                for part in batch:
                    self._run([part])
                return
            with self._changed:
                self._finish(batch[0][0], error)
            return
        start = 0
        with self._changed:
            for request, taken in batch:
                request.logits[taken] = logits[start : start + len(taken)]
                start += len(taken)
                request.done += len(taken)
                if request.done == len(request.pairs):
                    self._finish(request, None)
            self._changed.notify_all()

    def _logits(self, pairs: Sequence[EncodedPair]) -> NDArray[np.float32]:
        try:
            return self._forward(pairs)
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            if len(pairs) == 1:
                raise ScoringError(
                    f"Not even one pair of {len(pairs[0].ids)} tokens fits into memory: {error}"
                ) from error
        self._halve(pairs)
        middle = len(pairs) // 2
        return np.concatenate([self._logits(pairs[:middle]), self._logits(pairs[middle:])])

    def _halve(self, pairs: Sequence[EncodedPair]) -> None:
        tried = len(pairs) * max(len(pair.ids) for pair in pairs)
        smaller = max(1, tried // 2)
        if tried <= self.max_batch_tokens:  # not the second half of a batch whose first half was too large already
            logger.warning(
                "Out of memory with %d tokens a batch; going on with %d. Set max_batch_tokens=%d to start there.",
                tried,
                smaller,
                smaller,
            )
            self.max_batch_tokens = smaller
        _release_cached_memory()

    def _forget(self, request: _Request) -> None:
        with self._changed:
            if request in self._requests:
                self._finish(request, RuntimeError("cancelled"))

    def _finish(self, request: _Request, error: BaseException | None) -> None:
        """Answer a request; the lock is held."""
        if request in self._requests:
            self._requests.remove(request)
            self._changed.notify_all()
        if request.result.done():
            return
        if error is None:
            request.result.set_result(request.logits)
        else:
            request.result.set_exception(error)


# A thread that is inside torch, or on its way out of it, while Python shuts down takes the process with it.
_ALL: weakref.WeakSet[BatchWorker] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for worker in list(_ALL):
        worker.close()


def _out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text


def _release_cached_memory() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
