"""What computes on a CPU leaves nothing behind that slows the next computation."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from biorerank_plugins._common.forks import apart

THREADS = """
import os
import torch
from biorerank_plugins import BiEncoder, BioReranker, Passage

def threads():
    return len(os.listdir("/proc/self/task"))

torch.set_num_threads(2)
before = threads()
with BioReranker() as reranker:
    reranker.rank("Which drug reverses dabigatran?", ["Idarucizumab does."] * 40)
    BiEncoder().encode_passages([Passage(str(n), "Idarucizumab reverses dabigatran.") for n in range(40)])
    {also}
print(threads() - before)
"""


def _left_behind(also: str) -> int:
    command = [sys.executable, "-c", THREADS.format(also=also)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads as Linux tells them")
def test_models_leave_no_helpers_of_openmp_in_the_thread_that_calls() -> None:
    assert _left_behind("pass") == 0
    # The count is right: a product in the calling thread leaves one there.
    assert _left_behind("torch.ones(2000, 2000) @ torch.ones(2000, 2000)") == 1


def test_steps_are_done_in_their_order_in_one_thread_that_is_not_the_callers() -> None:
    seen = []
    assert apart([lambda n=n: seen.append(threading.current_thread()) or n for n in range(3)]) == [0, 1, 2]
    assert len({*seen}) == 1
    assert seen[0] is not threading.current_thread()
    assert not seen[0].is_alive()


def test_an_error_ends_the_steps() -> None:
    done = []

    def fails() -> None:
        raise OSError("no weights")

    with pytest.raises(OSError, match="no weights"):
        apart([lambda: done.append(1), fails, lambda: done.append(2)])
    assert done == [1]


def test_an_interrupted_caller_waits_for_the_step_that_runs_and_for_no_other() -> None:
    caller = threading.current_thread().ident
    done = []

    def interrupt() -> None:
        assert caller is not None
        threading.Event().wait(0.1)
        signal.pthread_kill(caller, signal.SIGINT)
        threading.Event().wait(0.1)
        done.append(1)

    with pytest.raises(KeyboardInterrupt):
        apart([interrupt, *[lambda: threading.Event().wait(0.01)] * 1000, lambda: done.append(2)])
    assert done == [1]
