"""Whoever calls, torch computes in one thread: no helpers of another thread are in the way."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator

import pytest
import torch
from support.fresh import run_fresh

from biorerank_plugins.runtime.computing import computing

WAIT = 30.0

# The thread that computes, and its helper; the thread that puts batches together is gone with the reranker.
HELPERS = """
import os
import torch
from biorerank_plugins import BiEncoder, BioReranker, Passage

def threads():
    return len(os.listdir("/proc/self/task"))

torch.set_num_threads(2)
before = threads()
encoder = BiEncoder()
encoder.encode_passages([Passage(str(n), "Idarucizumab reverses dabigatran.") for n in range(40)])
for _ in range(2):
    with BioReranker() as reranker:
        reranker.rank("Which drug reverses dabigatran?", ["Idarucizumab does."] * 40)
ours = threads() - before
torch.ones(2000, 2000) @ torch.ones(2000, 2000)
print(ours, threads() - before - ours)
"""

AT_EXIT = """
import atexit
import torch
from biorerank_plugins import BioReranker

torch.set_num_threads(2)
reranker = BioReranker()
atexit.register(lambda: print(len(reranker.rank("Which drug reverses dabigatran?", ["Idarucizumab does."]))))
"""


@pytest.fixture
def two_threads() -> Iterator[None]:
    yield from _with_threads(2)


@pytest.fixture
def one_thread() -> Iterator[None]:
    yield from _with_threads(1)


def _with_threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    yield
    torch.set_num_threads(before)


def _printed(code: str) -> str:
    done = run_fresh(code)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads as Linux tells them")
def test_the_calling_thread_gets_no_helpers() -> None:
    # The second number is the one that a product in the calling thread makes, so that the count is known to be right.
    assert _printed(HELPERS).split() == ["2", "1"]


def test_a_ranking_while_python_shuts_down() -> None:
    assert _printed(AT_EXIT).split() == ["1"]


def test_work_is_done_in_one_thread_that_is_not_the_callers(two_threads: None) -> None:
    found: list[threading.Thread] = []
    callers = [threading.Thread(target=lambda: found.append(computing(threading.current_thread))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(WAIT)
    assert len(found) == 4
    assert len({*found}) == 1
    assert found[0] not in callers


def test_work_may_ask_for_work(two_threads: None) -> None:
    assert computing(lambda: computing(lambda: 1)) == 1


def test_with_one_thread_a_product_callers_compute_at_the_same_time(one_thread: None) -> None:
    both = threading.Barrier(2)
    other = threading.Thread(target=lambda: computing(lambda: both.wait(WAIT)))
    other.start()
    computing(lambda: both.wait(WAIT))  # a BrokenBarrierError if the other one had to wait
    other.join(WAIT)


def test_an_error_is_the_callers(two_threads: None) -> None:
    def fail() -> None:
        raise OSError("no weights")

    with pytest.raises(OSError, match="no weights"):
        computing(fail)
    assert computing(lambda: 1) == 1


def test_an_interrupted_caller_goes_on_at_once_and_what_had_not_begun_is_not_done(two_threads: None) -> None:
    here = threading.get_ident()
    begun, may_end = threading.Event(), threading.Event()
    done: list[str] = []

    def first() -> None:
        begun.set()
        may_end.wait(WAIT)

    busy = threading.Thread(target=lambda: computing(first))
    busy.start()
    assert begun.wait(WAIT)
    interrupt = threading.Timer(0.2, lambda: signal.pthread_kill(here, signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that run in the background ignore it
    try:
        interrupt.start()
        with pytest.raises(KeyboardInterrupt):
            computing(lambda: done.append("second"))
    finally:
        may_end.set()
        signal.signal(signal.SIGINT, before)
    busy.join(WAIT)
    assert computing(lambda: list(done)) == []
