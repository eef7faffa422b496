"""Calls of a reranker on their way: time limits, how much may wait, and giving up.

Calls of plain Python run in their own threads, those of tasks queue in front of a few of ours; a task that is
cancelled, or whose time is up, leaves the queue at once, and what it asked for is forgotten.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from biorerank_plugins._common.checks import positive_number
from biorerank_plugins._common.forks import Lock, renew_in_child
from biorerank_plugins._common.progress import progress_bar
from biorerank_plugins.errors import OverloadedError, ScoringTimeoutError

T = TypeVar("T")
CLOSED = "This reranker is closed."
# They tokenise and wait; the model itself runs in one thread. Each is started on the event loop, which waits for it.
_WAITING_THREADS = 8


class Call:
    """One call: until when it may run, and whether somebody ended it.

    :param timeout: seconds from now; ``None`` for no limit.
    """

    def __init__(self, timeout: float | None = None) -> None:
        self.places = 0  # of those of `Calls`
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._ended: str | None = None
        self._stops: list[Callable[[Exception], None]] = []
        self._lock = threading.Lock()

    def seconds_left(self) -> float | None:
        """Return the seconds left, at least 0; ``None`` for no limit."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def check(self, state: str = "nothing was scored yet") -> None:
        """Go on only if there is time, and somebody who waits.

        :param state: how far it got, for the message.
        :raises ScoringTimeoutError: if its time is up.
        :raises RuntimeError: if it was ended.
        """
        if self._ended is not None:
            raise RuntimeError(self._ended)
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise ScoringTimeoutError(
                f"Scoring took too long, more than {self._timeout:g} seconds: {state}. "
                "Give a longer timeout or fewer passages."
            )

    def end(self, why: str) -> None:
        """End it from another thread: what waits for it is told, and what runs is told at its next :meth:`check`."""
        with self._lock:
            if self._ended is not None:
                return
            self._ended = why
            stops, self._stops = self._stops, []
        for stop in stops:
            stop(RuntimeError(why))

    @contextmanager
    def ended_by(self, stop: Callable[[Exception], None]) -> Iterator[None]:
        """While the body runs, let :meth:`end` call a function too, in its thread; raise if it was ended already."""
        with self._lock:
            if self._ended is not None:
                raise RuntimeError(self._ended)
            self._stops.append(stop)
        try:
            yield
        finally:
            with self._lock:
                if stop in self._stops:
                    self._stops.remove(stop)

    def wait_for(self, lock: Lock) -> None:
        """Take a lock that others hold for long, or raise when time is up; the caller releases it."""
        while not lock.acquire(-1 if (left := self.seconds_left()) is None else left):
            self.check("the model was not free")


@dataclass(frozen=True, slots=True)
class Watch:
    """Called with the number of texts done before each batch; it raises if the call must not go on."""

    call: Call
    total: int
    advance: Callable[[int], object]

    def __call__(self, done: int) -> None:
        """Tell how far it is; see :meth:`Call.check`."""
        self.call.check(f"{done} of {self.total} texts were scored")
        self.advance(done)


@contextmanager
def watched(call: Call, total: int, show_progress: bool) -> Iterator[Watch]:
    """Watch a call while the body scores ``total`` texts, with a progress bar on standard error if it is asked for."""
    with progress_bar(show_progress, total=total, unit="pair", desc="Reranking", leave=False) as bar:
        yield Watch(call, total, lambda done: bar.update(done - bar.n))
        bar.update(total - bar.n)


class Calls:
    """The calls of one reranker that are under way.

    :param max_waiting: passages that all calls together may have under way; ``None`` for any number. A call with more
        of them is taken when no other one is there.
    """

    def __init__(self, max_waiting: int | None) -> None:
        self._max_waiting = max_waiting
        self.closed = False
        self._lock = Lock()  # held for moments only: the event loop takes it too
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Begin without calls, as in a child process: those under way are its parent's."""
        self._taken = 0
        self._active: set[Call] = set()
        self._executor: ThreadPoolExecutor | None = None

    @contextmanager
    def begin(self, timeout: float | None = None) -> Iterator[Call]:
        """Let the body be a call; raise :class:`RuntimeError` if the reranker is closed, now or meanwhile."""
        call = Call(None if timeout is None else positive_number("timeout", timeout))
        with self._lock:
            self.refuse_closed()
            self._active.add(call)
        try:
            yield call
        finally:
            with self._lock:
                self._active.discard(call)
                self._taken -= call.places
                call.places = 0

    def take(self, call: Call, places: int) -> None:
        """Let a call have so many passages under way; raise :class:`OverloadedError` if there is no room for them."""
        with self._lock:
            if call not in self._active:  # it was cancelled, and has given back what it had
                call.check()
                return
            others = self._taken - call.places
            if self._max_waiting is not None and others and others + places > self._max_waiting:
                raise OverloadedError(
                    f"This reranker has {others} passages under way, and no room for {places} more: "
                    f"max_waiting={self._max_waiting}. Try again later."
                )
            self._taken = others + places
            call.places = places

    async def run(self, work: Callable[[Call], T], timeout: float | None, places: int | None) -> T:
        """Do work in a thread, without blocking the event loop; the timeout includes the time it waits for a thread."""
        with self.begin(timeout) as call:
            if places is not None:
                self.take(call, places)
            here = contextvars.copy_context().run  # what is traced in there belongs to the task
            future = asyncio.get_running_loop().run_in_executor(self._threads(), here, _in_time, work, call)
            try:
                while not (await asyncio.wait({future}, timeout=call.seconds_left()))[0]:
                    call.check("the scores were not there")
                return await future
            finally:
                future.cancel()  # does nothing if it is done
                call.end("The call was cancelled.")

    def close(self) -> None:
        """End the calls under way, and take no more."""
        with self._lock:
            self.closed = True
            active, executor, self._executor = list(self._active), self._executor, None
        for call in active:
            call.end("This reranker was closed while it was scoring.")
        if executor is not None:
            executor.shutdown(wait=False)

    def refuse_closed(self) -> None:
        """Raise :class:`RuntimeError` if it is closed."""
        if self.closed:
            raise RuntimeError(CLOSED)

    def _threads(self) -> ThreadPoolExecutor:
        # A pool of its own: asyncio's default one is shared with everything else that the host runs in threads.
        with self._lock:
            self.refuse_closed()
            if self._executor is None:
                self._executor = ThreadPoolExecutor(max_workers=_WAITING_THREADS, thread_name_prefix="biorerank")
            return self._executor


def _in_time(work: Callable[[Call], T], call: Call) -> T:
    call.check()  # it may have waited for a thread for long
    return work(call)
