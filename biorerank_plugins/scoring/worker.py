"""One thread a model: requests that wait at the same time share batches, and none of them waits for all of another.

Callers hand in encoded pairs, in parts or at once, and wait. The worker serves them in turn, one batch each, longest
pairs first; what a request leaves free in its batch is filled with pairs of the others where that is asked for, as on a
GPU. On a CPU one request fills its batches by itself, and the last bits of a logit, which differ with the pairs beside
it, stay the same whatever else is going on. A request that fails fails alone.
"""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NoReturn

from biorerank_plugins._common.forks import renew_in_child
from biorerank_plugins.errors import OverloadedError, ScoringTimeoutError
from biorerank_plugins.runtime.calls import CLOSED, Watch
from biorerank_plugins.runtime.memory import Budget, Logits
from biorerank_plugins.runtime.tokens import EncodedPair
from biorerank_plugins.scoring.requests import Batch, PairRequest, next_batch, pairs_of, tell_batch

logger = logging.getLogger(__name__)


class BatchWorker:
    """Puts batches of one model together in a thread of its own, and has them computed.

    :param max_batch_tokens: tokens a batch; halved, for good, when memory runs out.
    :param padded: whether all pairs of a batch count as long as its longest.
    :param merge: whether a batch may hold pairs of several requests.
    :param max_waiting: pairs that may wait; callers that bring more are held up until there is room.
    :param idle_seconds: without work the thread ends after so long, so that a model that nobody closed can be
        collected; the next request starts it again.
    """

    def __init__(
        self,
        forward: Callable[[Sequence[EncodedPair]], Logits],
        max_batch_tokens: int,
        *,
        padded: bool = True,
        merge: bool = True,
        max_waiting: int = 200_000,
        idle_seconds: float = 5.0,
    ) -> None:
        self._budget = Budget(forward, max_batch_tokens, padded=padded)
        self._padded = padded
        self._merge = merge
        self._max_waiting = max_waiting
        self._idle_seconds = idle_seconds
        self._closed = False
        self.renew()
        renew_in_child(self)
        _ALL.add(self)

    def renew(self) -> None:
        """Begin without a thread, as in a child process: the thread, and whoever waits for it, are its parent's."""
        self._requests: deque[PairRequest] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def max_batch_tokens(self) -> int:
        """Tokens a batch, as of now."""
        return self._budget.tokens

    @contextmanager
    def submit(self, watch: Watch) -> Iterator[PairRequest]:
        """Let the body bring pairs in parts; what is left of them is forgotten when it ends.

        :param watch: called with the number of pairs done, over all parts, before each batch that holds some of this
            request, in the worker's thread; what it raises ends the request and is raised in the body.
        """
        request = PairRequest(watch)
        end = partial(self._finish, request)
        try:
            with watch.call.ended_by(end):
                yield request
        finally:  # an error, or Ctrl-C while waiting: nobody wants the rest
            end(RuntimeError("cancelled"))

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
        self._budget.forward = _closed  # the one before holds the weights

    def add(self, request: PairRequest, pairs: Sequence[EncodedPair]) -> None:
        """Bring pairs of a request; they may be computed from now on. Waits while too many pairs wait.

        :raises RuntimeError: if the worker is closed.
        :raises OverloadedError: if there is no room for the first pairs until the call's time is up.
        :raises ScoringError: if pairs that were brought before could not be computed, or whatever the watch raised.
        """
        if not pairs:
            return
        with self._changed:
            # More than the whole queue holds is let in when nothing else waits.
            room = self._changed.wait_for(
                lambda: (
                    self._closed
                    or request.result.done()
                    or not self._waiting()
                    or self._waiting() + len(pairs) <= self._max_waiting
                ),
                request.watch.call.seconds_left(),
            )
            if request.result.done():
                request.result.result()  # raises why
            if self._closed:
                raise RuntimeError(CLOSED)
            if not room and request.pairs:
                raise ScoringTimeoutError(f"Scoring took too long: {request.done} texts were scored.")
            if not room:
                raise OverloadedError(
                    f"{self._waiting()} texts wait to be scored, and there was no room for {len(pairs)} more in time. "
                    "Try again later, or with a longer timeout."
                )
            request.add(pairs)
            if request not in self._requests:
                self._requests.append(request)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="biorerank-scoring", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def result(self, request: PairRequest) -> Logits:
        """Expect no more pairs, and wait for the logits of all, float32 [n], in the order in which they were brought.

        :raises RuntimeError, ScoringError: see :meth:`add`.
        :raises ScoringTimeoutError: as soon as the call's time is up, whatever is being computed.
        """
        with self._changed:
            request.complete = True
            if request.answered:
                self._finish(request)
        while True:
            try:
                return request.result.result(request.watch.call.seconds_left())
            except TimeoutError:
                if request.result.done():  # that is what the request ended with
                    raise
            request.watch(request.done)

    def _waiting(self) -> int:
        return sum(request.waiting for request in self._requests)

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting(), timeout=self._idle_seconds)
                if self._closed or not self._waiting():
                    self._thread = None
                    return
                batch = next_batch(self._requests, self._budget.tokens, padded=self._padded, merge=self._merge)
            tell_batch(batch, padded=self._padded)
            batch = [
                part for part in batch if self._may_go_on(part[0])
            ]  # not with the lock: it may draw a progress bar
            if batch:
                self._compute(batch)

    def _may_go_on(self, request: PairRequest) -> bool:
        try:
            request.watch(request.done)
        except BaseException as error:  # a time limit, or whatever the caller's progress bar raises
            self._finish(request, error)
            return False
        return True

    def _compute(self, batch: Batch) -> None:
        try:
            logits = self._budget.run(pairs_of(batch))
        except BaseException as error:
            if len(batch) == 1:
                self._finish(batch[0][0], error)
                return
            for part in batch:  # whose pairs they were is not known: each on its own
                self._compute([part])
            return
        start = 0
        with self._changed:
            for request, taken in batch:
                request.logits[taken] = logits[start : start + len(taken)]
                start += len(taken)
                request.done += len(taken)
                if request.answered:
                    self._finish(request)
            self._changed.notify_all()

    def _finish(self, request: PairRequest, error: BaseException | None = None) -> None:
        """Answer a request, if nobody did."""
        with self._changed:
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


def _closed(_: Sequence[EncodedPair]) -> NoReturn:
    raise RuntimeError(CLOSED)
