"""Pairs whose logit is known, forward functions that remember what they were given, and requests that wait together."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from biorerank_plugins.runtime.tokens import EncodedPair
from biorerank_plugins.scoring.worker import BatchWorker


def pair(length: int, value: int = 1) -> EncodedPair:
    return EncodedPair(np.full(length, value, np.int32), np.zeros(length, np.uint8), False, False)


def expected(pairs: list[EncodedPair]) -> list[float]:
    return [float(one.ids.sum()) for one in pairs]


class Recorder:
    """A forward function that remembers its batches, and can be held up."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self, pairs):
        self.go_on.wait()
        self.batches.append([len(one.ids) for one in pairs])
        return np.array(expected(pairs), dtype=np.float32)


def nothing(_: int) -> None:
    pass


def start_together(work: BatchWorker, forward: Recorder, requests):
    """Hand requests in while the worker is held up with a first one, so that all of them wait."""
    forward.go_on.clear()
    pool = ThreadPoolExecutor(len(requests) + 1)
    futures = [pool.submit(work.run, [pair(3)], nothing)]
    wait_until(lambda: work._thread is not None and not work._waiting())
    for number, request in enumerate(requests, start=1):
        futures.append(pool.submit(work.run, *request))
        wait_until(lambda n=number: len(work._requests) == n + 1)
    forward.go_on.set()
    return futures


def wait_until(condition, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.001)


class Device:
    """Computes batches one after the other in a thread of its own, as a GPU's stream does; batches can be held up."""

    def __init__(self, compute: Callable | None = None) -> None:
        self.recorder = Recorder()
        self.compute = compute or self.recorder
        self.go_on = self.recorder.go_on
        self.events: list[str] = []
        self.most_at_once = self._at_once = 0
        self._stream: queue.SimpleQueue = queue.SimpleQueue()
        self._number = 0
        threading.Thread(target=self._run, daemon=True).start()

    def forward(self, pairs):
        return self.start(pairs)()

    def start(self, pairs):
        self._number += 1
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        self.events.append(f"start {self._number}")
        done: Future = Future()
        self._stream.put((pairs, done))

        def finish(number=self._number):
            try:
                return done.result(10)
            finally:
                self._at_once -= 1
                self.events.append(f"end {number}")

        return finish

    def _run(self) -> None:
        while True:
            pairs, done = self._stream.get()
            try:
                done.set_result(self.compute(pairs))
            except BaseException as error:
                done.set_exception(error)
