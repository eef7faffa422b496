"""Pairs that come in parts, and batches that are counted without padding."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.worker import Recorder, expected, nothing, pair, run, wait_until, watch

from biorerank_plugins.scoring.worker import BatchWorker


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120), st.booleans())
@settings(deadline=None, max_examples=60)
def test_each_pair_gets_its_logit_and_batches_keep_the_budget(lengths, budget, padded):
    pairs = [pair(length, value) for value, length in enumerate(lengths)]
    forward = Recorder()
    work = BatchWorker(forward, budget, padded=padded)
    assert run(work, pairs, nothing).tolist() == expected(pairs)
    for batch in forward.batches:
        assert len(batch) == 1 or (len(batch) * max(batch) if padded else sum(batch)) <= budget
    assert sorted(length for batch in forward.batches for length in batch) == sorted(lengths)
    work.close()


def test_packed_batches_are_filled_with_what_fits():
    """Counted as long as the longest, they would be seven batches."""
    forward = Recorder()
    work = BatchWorker(forward, 100, padded=False)
    pairs = [pair(length) for length in (90, 60, 40, 10, 5, 30, 30, 20, 10)]
    assert run(work, pairs, nothing).tolist() == expected(pairs)
    assert forward.batches == [[90], [60, 40], [30, 30, 20, 10, 10], [5]]


def test_packed_batches_take_what_fits_of_other_requests():
    forward = Recorder()
    work = BatchWorker(forward, 100, padded=False)
    forward.go_on.clear()
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(run, work, [pair(3)], nothing)]
        wait_until(lambda: work._thread is not None and not work._waiting())
        for number, lengths in enumerate(([60], [70, 35, 3]), start=2):
            futures.append(pool.submit(run, work, [pair(length, number) for length in lengths], nothing))
            wait_until(lambda n=number: len(work._requests) == n)
        forward.go_on.set()
        assert [future.result(10).tolist() for future in futures] == [[3], [120], [210, 105, 9]]
    assert forward.batches == [[3], [60, 35, 3], [70]]


def test_closing_waits_for_the_batch_that_is_computed():
    forward = Recorder()
    work = BatchWorker(forward, 10)
    forward.go_on.clear()
    with ThreadPoolExecutor(2) as pool:
        future = pool.submit(run, work, [pair(10)] * 500, nothing)
        wait_until(lambda: work._waiting() == 499)
        closing = pool.submit(work.close)
        wait_until(lambda: work._closed)
        with pytest.raises(RuntimeError, match="closed"):
            future.result(10)
        assert not closing.done()
        forward.go_on.set()
        closing.result(10)
    assert len(forward.batches) == 1


def test_pairs_may_come_in_parts():
    forward = Recorder()
    work = BatchWorker(forward, 20)
    parts = [[pair(length, length + n) for length in (3, 9, 5)] for n in range(6)]
    done = []
    with work.submit(watch(done.append)) as request:
        for part in parts:
            work.add(request, part)
        work.add(request, [])
        logits = work.result(request)
    assert logits.tolist() == [value for part in parts for value in expected(part)]
    assert logits.dtype == np.float32
    assert done == sorted(done)


def test_the_first_part_is_computed_before_the_second_comes():
    forward = Recorder()
    work = BatchWorker(forward, 100)
    with work.submit(watch(nothing)) as request:
        work.add(request, [pair(4)])
        wait_until(lambda: forward.batches == [[4]])
        work.add(request, [pair(5)])
        assert work.result(request).tolist() == [4.0, 5.0]


def test_a_large_request_in_parts_does_not_get_more_turns():
    forward = Recorder()
    work = BatchWorker(forward, 10)
    forward.go_on.clear()
    with ThreadPoolExecutor(1) as pool, work.submit(watch(nothing)) as request:
        for _ in range(5):
            work.add(request, [pair(10)] * 10)
        small = pool.submit(run, work, [pair(9)], nothing)
        wait_until(lambda: len(work._requests) == 2)
        forward.go_on.set()
        small.result(10)
        work.result(request)
    assert [9] in forward.batches[:4]


def test_what_ends_a_request_is_raised_where_the_next_part_is_brought():
    def check(done: int) -> None:
        raise TimeoutError("too late")

    work = BatchWorker(Recorder(), 100)
    with work.submit(watch(check)) as request:
        work.add(request, [pair(4)])
        wait_until(lambda: not work._requests)
        with pytest.raises(TimeoutError, match="too late"):
            work.add(request, [pair(4)])
        with pytest.raises(TimeoutError, match="too late"):
            work.result(request)


def test_a_body_that_fails_leaves_nothing_behind():
    forward = Recorder()
    forward.go_on.clear()
    work = BatchWorker(forward, 10)

    def body():
        with work.submit(watch(nothing)) as request:
            work.add(request, [pair(10)] * 500)
            raise ValueError("the tokenizer")

    with pytest.raises(ValueError, match="the tokenizer"):
        body()
    forward.go_on.set()
    assert not work._requests
    assert run(work, [pair(3)], nothing).tolist() == [3.0]
    assert len(forward.batches) <= 2  # the one that was under way, and the last


def test_no_pairs_at_all():
    work = BatchWorker(Recorder(), 10)
    with work.submit(watch(nothing)) as request:
        assert work.result(request).shape == (0,)
    assert run(work, [], nothing).dtype == np.float32
    assert work._thread is None


def test_a_closed_worker_takes_no_parts():
    work = BatchWorker(Recorder(), 10)
    with work.submit(watch(nothing)) as request:
        work.add(request, [pair(3)])
        work.close()
        with pytest.raises(RuntimeError, match="closed"):
            work.add(request, [pair(3)])


def test_a_full_queue_holds_parts_up_and_loses_nothing():
    forward = Recorder()
    work = BatchWorker(forward, 10, max_waiting=4)
    parts = [[pair(10, n) for _ in range(3)] for n in range(12)]

    def in_parts():
        with work.submit(watch(nothing)) as request:
            for part in parts:
                work.add(request, part)
                assert work._waiting() <= 4
            return work.result(request).tolist()

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(in_parts) for _ in range(4)]:
            assert future.result(20) == [value for part in parts for value in expected(part)]


def test_many_threads_many_sizes():
    forward = Recorder()
    work = BatchWorker(forward, 64, padded=False)
    draw = np.random.default_rng(0)
    requests = [[pair(int(length), n) for length in draw.integers(1, 60, draw.integers(1, 30))] for n in range(40)]
    barrier = threading.Barrier(8)

    def one(number):
        if number < 8:
            barrier.wait()
        return run(work, requests[number], nothing).tolist()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(40))) == [expected(pairs) for pairs in requests]
    assert all(sum(batch) <= 64 for batch in forward.batches)
