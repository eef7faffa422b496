"""Pairs whose logit is known, forward functions that remember what they were given, and requests that wait together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from biorerank_plugins.runtime.calls import Call, Watch
from biorerank_plugins.runtime.memory import Logits
from biorerank_plugins.runtime.tokens import EncodedPair
from biorerank_plugins.scoring.worker import BatchWorker


def pair(length: int, value: int = 1) -> EncodedPair:
    return EncodedPair(np.full(length, value, np.int32), np.zeros(length, np.uint8), False, False)


def watch(told: Callable[[int], object]) -> Watch:
    """Return a watch without a time limit that tells how far the work is."""
    return told if isinstance(told, Watch) else Watch(Call(), 0, told)


def run(work: BatchWorker, pairs: Sequence[EncodedPair], told: Callable[[int], object]) -> Logits:
    """Bring all pairs at once, and wait for their logits."""
    with work.submit(watch(told)) as request:
        work.add(request, pairs)
        return work.result(request)


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
    futures = [pool.submit(run, work, [pair(3)], nothing)]
    wait_until(lambda: work._thread is not None and not work._waiting())
    for number, request in enumerate(requests, start=1):
        futures.append(pool.submit(run, work, *request))
        wait_until(lambda n=number: len(work._requests) == n + 1)
    forward.go_on.set()
    return futures


def wait_until(condition, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.001)
