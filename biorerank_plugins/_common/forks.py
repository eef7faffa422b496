"""Child processes after a fork: the parent's threads are gone, a lock may be held by one of them, and CUDA is lost."""

from __future__ import annotations

import os
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol


class Renewable(Protocol):
    """What holds threads, or what belongs to them."""

    def renew(self) -> None:
        """Forget the parent's threads, and whatever waits for them."""


_RENEWABLE: weakref.WeakSet[Any] = weakref.WeakSet()
_STARTED_IN = os.getpid()


def renew_in_child(what: Renewable) -> None:
    """Call ``what.renew()`` in every child process that is forked while ``what`` is alive."""
    _RENEWABLE.add(what)


class Lock:
    """A ``threading.Lock`` that is free in a child process, whoever held it in the parent when that forked.

    >>> with Lock():
    ...     pass
    """

    def __init__(self) -> None:
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Free the lock, in a child process."""
        self._lock = threading.Lock()

    def acquire(self, timeout: float = -1) -> bool:
        """Take the lock, as ``threading.Lock.acquire``."""
        return self._lock.acquire(timeout=timeout)

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


class Threads:
    """A ``ThreadPoolExecutor`` that begins anew in a child process, where the parent's threads are gone.

    :param workers: threads at most.
    :param name: what their names begin with.

    >>> Threads(1, "biorerank-example").executor.submit(len, "abc").result()
    3
    """

    def __init__(self, workers: int, name: str) -> None:
        self._workers, self._name = workers, name
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Begin anew: nothing that was submitted before is done."""
        self.executor = ThreadPoolExecutor(self._workers, thread_name_prefix=self._name)


def why_not_here(device: str, *, loaded_in: int, here: int, cuda_is_lost: bool) -> str | None:
    """Return why a model cannot be used in this process, as a sentence; ``None`` if it can.

    :param device: type of its device.
    :param loaded_in: id of the process that loaded it.
    :param here: id of this process.
    :param cuda_is_lost: whether CUDA was in use in the process that this one was forked from.

    >>> why_not_here("cpu", loaded_in=1, here=2, cuda_is_lost=True)
    """
    if device == "cpu" or (loaded_in == here and not (device == "cuda" and cuda_is_lost)):
        return None
    return (
        f"The model is on {device}, which a forked process cannot use after its parent did. Start the process with "
        "multiprocessing.get_context('spawn'), or load the model in the child and use no GPU before the fork, or "
        "give device='cpu'."
    )


def forked() -> bool:
    """Return whether this process was forked from the one that imported the package."""
    return os.getpid() != _STARTED_IN


def _renew_all() -> None:
    for what in list(_RENEWABLE):
        what.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
