"""One thread a model: requests that wait at the same time share batches, and none of them waits for all of another.

Callers hand in encoded pairs and wait. The worker serves them in turn, one batch each, longest pairs first; what a
request leaves free in its batch is filled with pairs of the others where that is asked for. On a GPU it turns many
small requests into few large batches. On a CPU one request fills its batches by itself, and the last bits of a logit,
which differ with the pairs beside it, stay the same whatever else is going on. A request that fails fails alone.

A caller can bring its pairs in parts: the first are computed while the next are tokenised.
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
from typing import TYPE_CHECKING, NoReturn

from biorerank_plugins._common.forks import renew_in_child
from biorerank_plugins.errors import OverloadedError, ScoringTimeoutError
from biorerank_plugins.runtime.calls import CLOSED, Call
from biorerank_plugins.runtime.memory import Budget, Logits
from biorerank_plugins.scoring.requests import Batch, PairRequest, PairStream, Taken, next_batch, pairs_of, tell_batch

if TYPE_CHECKING:
    from biorerank_plugins.runtime.tokens import EncodedPair
    from biorerank_plugins.scoring.scores import Check

logger = logging.getLogger(__name__)


class BatchWorker:
    """Runs batches of one model in a thread of its own.

    :param forward: from one batch to its logits, float32 [n].
    :param max_batch_tokens: tokens a batch; halved, for good, when memory runs out.
    :param padded: whether all pairs of a batch count as long as its longest.
    :param merge: whether a batch may hold pairs of several requests.
    :param max_waiting: pairs that may wait; callers that bring more are held up until there is room.
    :param idle_seconds: without work the thread ends after so long, so that a model that nobody closed can be
        collected; the next request starts it again.

    >>> with worker.submit(check) as stream:  # doctest: +SKIP
    ...     for part in parts:
    ...         stream.add(tokenizer.encode(part))
    ...     logits = stream.result()
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
    def submit(self, check: Check) -> Iterator[PairStream]:
        """Let the body bring pairs in parts; what is left of them is forgotten when it ends.

        :param check: called with the number of pairs done, over all parts, before each batch that holds some of this
            request, in the worker's thread; what it raises ends the request and is raised in the body.
        """
        stream = PairStream(self.add, self.complete, check)
        try:
            with stream.call.ended_by(partial(self._drop, stream.request)):
                yield stream
        finally:  # an error, or Ctrl-C while waiting: nobody wants the rest
            self._drop(stream.request, RuntimeError("cancelled"))

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

    def add(self, request: PairRequest, pairs: Sequence[EncodedPair], call: Call) -> None:
        """Let pairs of a request wait; see :meth:`PairStream.add`."""
        with self._changed:
            # More than the whole queue holds is let in when nothing else waits.
            room = self._changed.wait_for(
                lambda: (
                    self._closed
                    or request.result.done()
                    or not self._waiting()
                    or self._waiting() + len(pairs) <= self._max_waiting
                ),
                call.seconds_left(),
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

    def complete(self, request: PairRequest) -> None:
        """Expect no more pairs of a request; see :meth:`PairStream.result`."""
        with self._changed:
            request.complete = True
            if request.answered:
                self._finish(request, None)

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
            batch = [part for part in batch if self._may_go_on(*part)]  # not with the lock: it may draw a progress bar
            if batch:
                self._compute(batch)

    def _may_go_on(self, request: PairRequest, taken: Taken) -> bool:
        try:
            request.check(request.done)
        except BaseException as error:  # a time limit, or whatever the caller's progress bar raises
            with self._changed:
                self._finish(request, error)
            return False
        return True

    def _compute(self, batch: Batch) -> None:
        try:
            logits = self._budget.run(pairs_of(batch))
        except BaseException as error:
            if len(batch) > 1:  # whose pairs they were is not known: each on its own
                for part in batch:
                    self._compute([part])
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

    def _drop(self, request: PairRequest, error: Exception) -> None:
        with self._changed:
            self._finish(request, error)

    def _finish(self, request: PairRequest, error: BaseException | None) -> None:
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


def _closed(_: Sequence[EncodedPair]) -> NoReturn:
    raise RuntimeError(CLOSED)
