"""Merging of concurrent requests: values, turns, failures, memory; the forward function is plain arithmetic."""

from __future__ import annotations

import gc
import logging
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fresh import run_fresh
from support.worker import Recorder, expected, nothing, pair, run, start_together, wait_until

from biorerank_plugins.errors import OverloadedError, ScoringError
from biorerank_plugins.runtime.calls import Call, Watch
from biorerank_plugins.scoring.worker import BatchWorker


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120))
@settings(max_examples=60)
def test_each_pair_gets_its_logit_and_batches_keep_the_budget(lengths, budget):
    pairs = [pair(length, value) for value, length in enumerate(lengths)]
    forward = Recorder()
    work = BatchWorker(forward, budget)
    assert run(work, pairs, nothing).tolist() == expected(pairs)
    assert all(len(batch) == 1 or len(batch) * max(batch) <= budget for batch in forward.batches)
    assert sorted(length for batch in forward.batches for length in batch) == sorted(lengths)
    assert [max(batch) for batch in forward.batches] == sorted((max(b) for b in forward.batches), reverse=True)
    work.close()


def test_requests_that_wait_together_share_a_batch():
    forward = Recorder()
    work = BatchWorker(forward, 100)
    requests = [([pair(5, n), pair(4, n)], nothing) for n in range(4)]
    futures = start_together(work, forward, requests)
    for (pairs, _), future in zip(requests, futures[1:], strict=True):
        assert future.result(10).tolist() == expected(pairs)
    assert [len(batch) for batch in forward.batches] == [1, 8]


def test_without_merging_each_batch_belongs_to_one_request():
    forward = Recorder()
    work = BatchWorker(forward, 100, merge=False)
    requests = [([pair(5, n), pair(4, n)], nothing) for n in range(4)]
    for (pairs, _), future in zip(requests, start_together(work, forward, requests)[1:], strict=True):
        assert future.result(10).tolist() == expected(pairs)
    assert [len(batch) for batch in forward.batches] == [1, 2, 2, 2, 2]


def test_a_small_request_does_not_wait_for_all_of_a_large_one():
    forward = Recorder()
    work = BatchWorker(forward, 10)
    large, small = [pair(10) for _ in range(50)], [pair(9)]
    start_together(work, forward, [(large, nothing), (small, nothing)])[2].result(10)
    assert [9] in forward.batches[:4]


def test_a_request_that_its_check_ends_leaves_the_others_alone():
    class TooLateError(Exception):
        pass

    def check(done: int) -> None:
        if done:
            raise TooLateError(done)

    forward = Recorder()
    work = BatchWorker(forward, 10)
    slow, fine = [pair(10, 2) for _ in range(5)], [pair(10, 3) for _ in range(5)]
    futures = start_together(work, forward, [(slow, check), (fine, nothing)])
    with pytest.raises(TooLateError):
        futures[1].result(10)
    assert futures[2].result(10).tolist() == expected(fine)
    assert len(forward.batches) == 1 + 1 + 5


def test_a_request_that_fails_fails_alone():
    def forward(pairs):
        if any(one.ids[0] == 13 for one in pairs):
            raise ValueError("thirteen")
        return recorder(pairs)

    recorder = Recorder()
    work = BatchWorker(forward, 100)
    futures = start_together(work, recorder, [([pair(4, 13)], nothing), ([pair(4, 2)], nothing)])
    with pytest.raises(ValueError, match="thirteen"):
        futures[1].result(10)
    assert futures[2].result(10).tolist() == [8.0]
    assert run(work, [pair(2)], nothing).tolist() == [2.0]


@pytest.mark.parametrize("padded", [True, False])
def test_memory_that_runs_out_halves_the_budget_for_good(padded, caplog):
    forward = Recorder()

    def limited(pairs):
        if len(pairs) * max(len(one.ids) for one in pairs) > 40:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(pairs)

    work = BatchWorker(limited, 160, padded=padded)
    pairs = [pair(10, n) for n in range(32)]
    with caplog.at_level(logging.WARNING, logger="biorerank_plugins"):
        assert run(work, pairs, nothing).tolist() == expected(pairs)
        assert work.max_batch_tokens == 40
        n_warnings = len(caplog.records)
        assert run(work, pairs, nothing).tolist() == expected(pairs)
    assert len(caplog.records) == n_warnings == 2
    assert "max_batch_tokens=40" in caplog.text


def test_a_pair_that_never_fits_is_an_error():
    def never(pairs):
        raise MemoryError("no room")

    with pytest.raises(ScoringError, match="one pair of 7 tokens"):
        run(BatchWorker(never, 100), [pair(7), pair(5)], nothing)


def test_a_full_queue_holds_callers_up_and_loses_nothing():
    forward = Recorder()
    work = BatchWorker(forward, 10, max_waiting=4)
    requests = [[pair(10, n) for _ in range(3)] for n in range(12)]
    with ThreadPoolExecutor(12) as pool:
        futures = [pool.submit(run, work, pairs, nothing) for pairs in requests]
        for pairs, future in zip(requests, futures, strict=True):
            assert future.result(20).tolist() == expected(pairs)


def test_a_full_queue_refuses_a_caller_whose_time_is_up():
    forward = Recorder()
    work = BatchWorker(forward, 10, max_waiting=4)
    futures = start_together(work, forward, [])
    forward.go_on.clear()
    with ThreadPoolExecutor(2) as pool:
        futures += [pool.submit(run, work, [pair(10)] * 4, nothing) for _ in range(2)]
        wait_until(lambda: work._waiting() >= 3)
        with pytest.raises(OverloadedError, match=r"texts wait to be scored, and there was no room for 3 more in time"):
            run(work, [pair(10)] * 3, Watch(Call(0.1), 3, nothing))
        forward.go_on.set()
        assert [len(future.result(10)) for future in futures] == [1, 4, 4]
    assert len(run(work, [pair(10)] * 3, Watch(Call(60), 3, nothing))) == 3
    work.close()


def test_closing_answers_who_waits():
    forward = Recorder()
    work = BatchWorker(forward, 10)
    futures = start_together(work, forward, [([pair(10)] * 500, nothing)])
    work.close()
    for future in futures:
        try:
            future.result(10)
        except RuntimeError as error:
            assert "closed" in str(error)
    with pytest.raises(RuntimeError, match="closed"):
        run(work, [pair(3)], nothing)
    work.close()


def test_a_worker_that_nobody_uses_ends_its_thread_and_starts_again():
    def use() -> weakref.ref[BatchWorker]:
        work = BatchWorker(Recorder(), 100, idle_seconds=0.05)
        for length in (3, 4):
            assert run(work, [pair(length)], nothing).tolist() == [float(length)]
            wait_until(lambda: work._thread is None)
        return weakref.ref(work)

    gone = use()
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    "ending", ["reranker.close()", "pass", "import threading; threading.Thread(target=busy, daemon=True).start()"]
)
def test_a_process_ends_cleanly_after_scoring(tiny_cross_encoder_dir: Path, ending: str):
    """Closed just before, not closed, or still at work."""
    code = f"""
from biorerank_plugins import BioReranker
reranker = BioReranker({str(tiny_cross_encoder_dir)!r}, device="cpu", dtype="float32")
texts = ["insulin lowers glucose " * n for n in range(40)]
def busy():
    while True:
        reranker.rank("does aspirin work", texts)
reranker.rank("does aspirin work", texts)
{ending}
"""
    done = run_fresh(code)
    assert (done.returncode, "terminate" in done.stderr) == (0, False)
