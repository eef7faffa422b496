"""Where torch computes on a CPU: one thread of the process, whoever calls.

OpenMP gives each thread that computes helpers of its own, and keeps them while it lives. As soon as there are more
helpers than cores, libgomp puts every one to sleep between two products instead of letting it look out for the next;
a reranking of 100 snippets on two cores took up to a quarter longer while the thread that had loaded the model, or
embedded the question, kept its own. In a forked process those of the thread that forked are gone, and it would wait
for them for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import TypeVar

import torch

from biorerank_plugins._common.forks import Lock, Threads, forked

T = TypeVar("T")

_HERE = threading.local()
_LOCK = Lock()
_THREADS: dict[int, Threads] = {}


def computing(work: Callable[[], T], device: torch.device | None = None) -> T:
    """Do work in the thread that computes, after what was asked for before; return what it returns.

    A caller that is interrupted does not wait for the end of it. With one thread a product there are no helpers, and
    the work is done in place, so that several callers may use several cores.

    :param work: what to do; it must not wait for another thread that computes.
    :param device: where it computes, if that is known; what a GPU computes is asked for in place.

    >>> computing(lambda: 1 + 1)
    2
    """
    number = torch.get_num_threads()
    elsewhere = device is not None and device.type != "cpu"
    if elsewhere or (number == 1 and not forked()) or getattr(_HERE, "computes", False):
        return work()
    try:
        future = _thread(number).executor.submit(copy_context().run, _mark, work)
    except RuntimeError:  # Python is shutting down, and takes no more work for threads
        return work()
    try:
        return future.result()
    except BaseException:
        future.cancel()  # does nothing unless it has not begun
        raise


def _thread(number: int) -> Threads:
    """Return the thread for this number of helpers; torch takes it over when a thread begins, and never again."""
    with _LOCK:
        if number not in _THREADS:
            _THREADS[number] = Threads(1, "biorerank-computing")
        return _THREADS[number]


def _mark(work: Callable[[], T]) -> T:
    _HERE.computes = True
    return work()
