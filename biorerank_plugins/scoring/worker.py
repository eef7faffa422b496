"""One thread a model: requests that wait at the same time share batches, and none of them waits for all of another.

Callers hand in encoded pairs and wait. The worker serves them in turn, one batch each, longest pairs first; what a
request leaves free in its batch is filled with pairs of the others where that is asked for. On a GPU it turns many
small requests into few large batches. On a CPU one request fills its batches by itself, and the last bits of a logit,
which differ with the pairs beside it, stay the same whatever else is going on. A request that fails fails alone.

A backend that computes elsewhere may start a batch without waiting for it. Then the next one is packed meanwhile, and a
caller can bring its pairs in parts: the first are computed while the next are tokenised.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from traceback import clear_frames
from typing import TYPE_CHECKING, NoReturn, TypeAlias

import numpy as np

from biorerank_plugins.errors import ScoringError
from biorerank_plugins.scoring.memory import is_out_of_memory, release_cached_memory
from biorerank_plugins.scoring.requests import Batch, Request, Taken, next_batch, pairs_of, tokens_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biorerank_plugins.scoring import Check
    from biorerank_plugins.scoring.tokens import EncodedPair

logger = logging.getLogger(__name__)

__all__ = ["BatchWorker", "Submission"]

Logits: TypeAlias = "NDArray[np.float32]"
Attempt: TypeAlias = "Callable[[], Logits]"

MAX_WAITING = 200_000
"""Pairs that may wait; callers that bring more are held up until there is room."""

AT_ONCE = 2
"""Batches that a device is given: one that it computes, one that is ready when it is done."""


class Submission:
    """Pairs that one caller brings in parts; made by :meth:`BatchWorker.submit`."""

    def __init__(self, worker: BatchWorker, check: Check) -> None:
        self._worker = worker
        self._request = Request(check)

    def add(self, pairs: Sequence[EncodedPair]) -> None:
        """Bring pairs; they may be computed from now on. Waits while too many pairs wait.

        :param pairs: encoded pairs.
        :raises RuntimeError: if the worker is closed.
        :raises ScoringError: if pairs that were brought before could not be computed, or whatever ``check`` raised.
        """
        if pairs:
            self._worker._add(self._request, pairs)

    def result(self) -> Logits:
        """Wait for the logits of all pairs, float32 [n], in the order in which they were brought.

        :raises RuntimeError, ScoringError: see :meth:`add`.
        """
        self._worker._complete(self._request)
        return self._request.result.result()


class BatchWorker:
    """Runs batches of one model in a thread of its own.

    :param forward: from one batch to its logits, float32 [n].
    :param max_batch_tokens: tokens a batch; halved, for good, when memory runs out.
    :param start: sends a batch on its way and returns a function that waits for its logits; ``None`` if only
        ``forward`` can be called. When memory runs out in it, the batch is halved and tried again with ``forward``.
    :param padded: whether all pairs of a batch count as long as its longest.
    :param merge: whether a batch may hold pairs of several requests.
    :param max_waiting: pairs that may wait.
    :param idle_seconds: without work the thread ends after so long, so that a model that nobody closed can be
        collected; the next request starts it again.

    >>> with worker.submit(check) as submission:  # doctest: +SKIP
    ...     for part in parts:
    ...         submission.add(tokenizer.encode(part))
    ...     logits = submission.result()
    """

    def __init__(
        self,
        forward: Callable[[Sequence[EncodedPair]], Logits],
        max_batch_tokens: int,
        *,
        start: Callable[[Sequence[EncodedPair]], Attempt] | None = None,
        padded: bool = True,
        merge: bool = True,
        max_waiting: int = MAX_WAITING,
        idle_seconds: float = 5.0,
    ) -> None:
        self.max_batch_tokens = max_batch_tokens
        self._forward = forward
        self._start = start
        self._padded = padded
        self._merge = merge
        self._max_waiting = max_waiting
        self._idle_seconds = idle_seconds
        self._requests: deque[Request] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        _ALL.add(self)

    def run(self, pairs: Sequence[EncodedPair], check: Check) -> Logits:
        """Return the logits of pairs, float32 [n], in the same order.

        :param pairs: encoded pairs.
        :param check: called before each batch that holds pairs of this request, in the worker's thread; what it raises
            ends the request and is raised here.
        :raises RuntimeError: if the worker is closed.
        :raises ScoringError: if not even one pair fits into memory.
        """
        with self.submit(check) as submission:
            submission.add(pairs)
            return submission.result()

    @contextmanager
    def submit(self, check: Check) -> Iterator[Submission]:
        """Let the body bring pairs in parts; what is left of them is forgotten when it ends.

        :param check: see :meth:`run`; the number of pairs done counts over all parts.
        """
        submission = Submission(self, check)
        try:
            yield submission
        finally:
            self._forget(submission._request)  # an error, or Ctrl-C while waiting: nobody wants the rest

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

    def _add(self, request: Request, pairs: Sequence[EncodedPair]) -> None:
        with self._changed:
            # More than the whole queue holds is let in when nothing else waits.
            self._changed.wait_for(
                lambda: (
                    self._closed
                    or request.result.done()
                    or not self._waiting()
                    or self._waiting() + len(pairs) <= self._max_waiting
                )
            )
            if request.result.done():
                request.result.result()  # raises why
            if self._closed:
                raise RuntimeError("This reranker is closed.")
            request.add(pairs)
            if request not in self._requests:
                self._requests.append(request)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="biorerank-scoring", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _complete(self, request: Request) -> None:
        with self._changed:
            request.complete = True
            if request.answered:
                self._finish(request, None)

    def _waiting(self) -> int:
        return sum(request.waiting for request in self._requests)

    def _serve(self) -> None:
        running: deque[tuple[Batch, Attempt]] = deque()  # what the device was given, oldest first
        at_once = 1 if self._start is None else AT_ONCE
        while True:
            batch: Batch = []
            with self._changed:
                if not running:
                    self._changed.wait_for(lambda: self._closed or self._waiting(), timeout=self._idle_seconds)
                if not self._closed and self._waiting():
                    batch = next_batch(self._requests, self.max_batch_tokens, padded=self._padded, merge=self._merge)
                    batch = [part for part in batch if self._may_go_on(*part)]
                elif not running:
                    self._thread = None
                    return
            if batch:
                self._begin(batch, running)
            if running and (not batch or len(running) == at_once):
                self._end(*running.popleft())

    def _may_go_on(self, request: Request, taken: Taken) -> bool:
        try:
            request.check(request.done)
        except BaseException as error:  # a time limit, or whatever the caller's progress bar raises
            self._finish(request, error)
            return False
        return True

    def _begin(self, batch: Batch, running: deque[tuple[Batch, Attempt]]) -> None:
        pairs = pairs_of(batch)
        if self._start is None:
            running.append((batch, partial(self._forward, pairs)))
            return
        try:
            running.append((batch, self._start(pairs)))
        except BaseException as error:
            if is_out_of_memory(error):
                clear_frames(error.__traceback__)  # they hold tensors
            while running:  # so do batches on their way
                self._end(*running.popleft())
            self._end(batch, partial(_raise, error))

    def _end(self, batch: Batch, attempt: Attempt | None) -> None:
        try:
            logits = self._logits(pairs_of(batch), attempt)
        except BaseException as error:
            if len(batch) > 1:  # whose pairs they were is not known: each on its own
                for part in batch:
                    self._end([part], None)
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
                if request.answered:
                    self._finish(request, None)
            self._changed.notify_all()

    def _logits(self, pairs: Sequence[EncodedPair], attempt: Attempt | None = None) -> Logits:
        try:
            return self._forward(pairs) if attempt is None else attempt()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if len(pairs) == 1:
                raise ScoringError(
                    f"Not even one pair of {len(pairs[0].ids)} tokens fits into memory: {error}"
                ) from error
        self._halve(pairs)
        middle = len(pairs) // 2
        return np.concatenate([self._logits(pairs[:middle]), self._logits(pairs[middle:])])

    def _halve(self, pairs: Sequence[EncodedPair]) -> None:
        tried = tokens_of(pairs, padded=self._padded)
        smaller = max(1, tried // 2)
        if tried <= self.max_batch_tokens:  # not the second half of a batch whose first half was too large already
            logger.warning(
                "Out of memory with %d tokens a batch; going on with %d. Set max_batch_tokens=%d to start there.",
                tried,
                smaller,
                smaller,
            )
            self.max_batch_tokens = smaller
        release_cached_memory()

    def _forget(self, request: Request) -> None:
        with self._changed:
            if request in self._requests:
                self._finish(request, RuntimeError("cancelled"))

    def _finish(self, request: Request, error: BaseException | None) -> None:
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


def _begin_again() -> None:
    """In a child process after a fork: threads, and whoever waits for them, are the parent's."""
    for worker in list(_ALL):
        worker._requests, worker._changed, worker._thread = deque(), threading.Condition(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_again)


@atexit.register
def _close_all() -> None:
    for worker in list(_ALL):
        worker.close()


def _raise(error: BaseException) -> NoReturn:
    raise error
