"""Batches on their way: two at once, in order, and everything that holds for one at a time."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.worker import Device, Recorder, expected, nothing, pair, wait_until

from biorerank_plugins.errors import ScoringError
from biorerank_plugins.scoring.worker import BatchWorker


def worker_of(device: Device, budget: int, **options) -> BatchWorker:
    return BatchWorker(device.forward, budget, start=device.start, **options)


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120), st.booleans())
@settings(max_examples=60)
def test_each_pair_gets_its_logit_and_batches_keep_the_budget(lengths, budget, padded):
    pairs = [pair(length, value) for value, length in enumerate(lengths)]
    device = Device()
    work = worker_of(device, budget, padded=padded)
    assert work.run(pairs, nothing).tolist() == expected(pairs)
    for batch in device.recorder.batches:
        assert len(batch) == 1 or (len(batch) * max(batch) if padded else sum(batch)) <= budget
    assert sorted(length for batch in device.recorder.batches for length in batch) == sorted(lengths)
    work.close()


def test_packed_batches_are_filled_with_what_fits():
    """Counted as long as the longest, they would be seven batches."""
    forward = Recorder()
    work = BatchWorker(forward, 100, padded=False)
    pairs = [pair(length) for length in (90, 60, 40, 10, 5, 30, 30, 20, 10)]
    assert work.run(pairs, nothing).tolist() == expected(pairs)
    assert forward.batches == [[90], [60, 40], [30, 30, 20, 10, 10], [5]]


def test_packed_batches_take_what_fits_of_other_requests():
    forward = Recorder()
    work = BatchWorker(forward, 100, padded=False)
    forward.go_on.clear()
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(work.run, [pair(3)], nothing)]
        wait_until(lambda: work._thread is not None and not work._waiting())
        for number, lengths in enumerate(([60], [70, 35, 3]), start=2):
            futures.append(pool.submit(work.run, [pair(length, number) for length in lengths], nothing))
            wait_until(lambda n=number: len(work._requests) == n)
        forward.go_on.set()
        assert [future.result(10).tolist() for future in futures] == [[3], [120], [210, 105, 9]]
    assert forward.batches == [[3], [60, 35, 3], [70]]


def test_the_next_batch_is_ready_when_the_device_is_done():
    device = Device()
    work = worker_of(device, 10)
    pairs = [pair(10, n) for n in range(5)]
    assert work.run(pairs, nothing).tolist() == expected(pairs)
    assert device.events == [
        "start 1", "start 2", "end 1", "start 3", "end 2", "start 4", "end 3", "start 5", "end 4", "end 5",
    ]  # fmt: skip
    assert device.most_at_once == 2


def test_a_single_batch_is_not_held_back_for_a_second():
    device = Device()
    assert worker_of(device, 100).run([pair(3)], nothing).tolist() == [3.0]


def test_a_request_that_its_check_ends_leaves_the_others_alone():
    class TooLateError(Exception):
        pass

    def check(done: int) -> None:
        if done:
            raise TooLateError(done)

    device = Device()
    work = worker_of(device, 10)
    slow, fine = [pair(10, 2) for _ in range(50)], [pair(10, 3) for _ in range(50)]
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(work.run, slow, check), pool.submit(work.run, fine, nothing)]
        with pytest.raises(TooLateError):
            futures[0].result(10)
        assert futures[1].result(10).tolist() == expected(fine)
    assert len(device.recorder.batches) < 60


@pytest.mark.parametrize("where", ["start", "device"])
def test_a_request_that_fails_fails_alone(where):
    device = Device()

    def fail(pairs):
        if any(one.ids[0] == 13 for one in pairs):
            raise ValueError("thirteen")

    def compute(pairs):
        fail(pairs)
        return device.recorder(pairs)

    def start(pairs):
        fail(pairs)
        return Device.start(device, pairs)

    if where == "device":
        device.compute = compute
    else:
        device.start = start
    work = worker_of(device, 30)
    device.go_on.clear()
    requests = [[pair(10, value) for _ in range(4)] for value in (2, 13, 3)]
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(work.run, pairs, nothing) for pairs in requests]
        device.go_on.set()
        with pytest.raises(ValueError, match="thirteen"):
            futures[1].result(10)
        assert [futures[n].result(10).tolist() for n in (0, 2)] == [[20.0] * 4, [30.0] * 4]
    assert work.run([pair(2)], nothing).tolist() == [2.0]


@pytest.mark.parametrize("where", ["start", "device"])
@pytest.mark.parametrize("padded", [True, False])
def test_memory_that_runs_out_halves_the_budget_for_good(where, padded, caplog):
    device = Device()

    def fail(pairs):
        if sum(len(one.ids) for one in pairs) > 40:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def compute(pairs):
        fail(pairs)
        return device.recorder(pairs)

    def start(pairs):
        fail(pairs)
        return Device.start(device, pairs)

    if where == "device":
        device.compute = compute
    else:
        device.start = start
    work = worker_of(device, 160, padded=padded)
    pairs = [pair(10, n) for n in range(64)]
    with caplog.at_level(logging.WARNING, logger="biorerank_plugins"):
        assert work.run(pairs, nothing).tolist() == expected(pairs)
        assert work.max_batch_tokens == 40
        n_warnings = len(caplog.records)
        assert work.run(pairs, nothing).tolist() == expected(pairs)
    assert len(caplog.records) == n_warnings == 2


def test_what_ran_out_of_memory_is_tried_again_when_nothing_else_is_on_its_way():
    device = Device()
    on_their_way = []

    def start(pairs):
        if len(pairs) > 2:
            raise RuntimeError("out of memory")
        on_their_way.append(device._at_once)
        return Device.start(device, pairs)

    device.start = start
    work = worker_of(device, 40)
    pairs = [pair(20, 1), pair(20, 2), pair(10, 3), pair(10, 4), pair(10, 5), pair(10, 6), pair(4, 7)]
    assert work.run(pairs, nothing).tolist() == expected(pairs)
    assert on_their_way[1:3] == [0, 0]


def test_a_pair_that_never_fits_is_an_error():
    def never(pairs):
        raise MemoryError("no room")

    with pytest.raises(ScoringError, match="one pair of 7 tokens"):
        BatchWorker(never, 100, start=never).run([pair(7), pair(5)], nothing)


def test_closing_waits_for_what_is_on_its_way():
    device = Device()
    work = worker_of(device, 10)
    device.go_on.clear()
    with ThreadPoolExecutor(2) as pool:
        future = pool.submit(work.run, [pair(10)] * 500, nothing)
        wait_until(lambda: device._at_once == 2)
        closing = pool.submit(work.close)
        wait_until(lambda: work._closed)
        with pytest.raises(RuntimeError, match="closed"):
            future.result(10)
        assert not closing.done()
        device.go_on.set()
        closing.result(10)
    assert device._at_once == 0
    assert len(device.recorder.batches) == 2


def test_pairs_may_come_in_parts():
    device = Device()
    work = worker_of(device, 20)
    parts = [[pair(length, length + n) for length in (3, 9, 5)] for n in range(6)]
    done = []
    with work.submit(done.append) as submission:
        for part in parts:
            submission.add(part)
        submission.add([])
        logits = submission.result()
    assert logits.tolist() == [value for part in parts for value in expected(part)]
    assert logits.dtype == np.float32
    assert done == sorted(done)


def test_the_first_part_is_computed_before_the_second_comes():
    device = Device()
    work = worker_of(device, 100)
    with work.submit(nothing) as submission:
        submission.add([pair(4)])
        wait_until(lambda: device.events == ["start 1", "end 1"])
        submission.add([pair(5)])
        assert submission.result().tolist() == [4.0, 5.0]


def test_a_large_request_in_parts_does_not_get_more_turns():
    device = Device()
    work = worker_of(device, 10)
    device.go_on.clear()
    with ThreadPoolExecutor(1) as pool, work.submit(nothing) as submission:
        for _ in range(5):
            submission.add([pair(10)] * 10)
        small = pool.submit(work.run, [pair(9)], nothing)
        wait_until(lambda: len(work._requests) == 2)
        device.go_on.set()
        small.result(10)
        submission.result()
    assert [9] in device.recorder.batches[:4]


def test_what_ends_a_request_is_raised_where_the_next_part_is_brought():
    def check(done: int) -> None:
        raise TimeoutError("too late")

    work = worker_of(Device(), 100)
    with work.submit(check) as submission:
        submission.add([pair(4)])
        wait_until(lambda: not work._requests)
        with pytest.raises(TimeoutError, match="too late"):
            submission.add([pair(4)])
        with pytest.raises(TimeoutError, match="too late"):
            submission.result()


def test_a_body_that_fails_leaves_nothing_behind():
    device = Device()
    work = worker_of(device, 10)

    def body():
        with work.submit(nothing) as submission:
            submission.add([pair(10)] * 500)
            raise ValueError("the tokenizer")

    with pytest.raises(ValueError, match="the tokenizer"):
        body()
    assert not work._requests
    assert work.run([pair(3)], nothing).tolist() == [3.0]
    assert len(device.recorder.batches) < 500


def test_no_pairs_at_all():
    work = worker_of(Device(), 10)
    with work.submit(nothing) as submission:
        assert submission.result().shape == (0,)
    assert work.run([], nothing).dtype == np.float32
    assert work._thread is None


def test_a_closed_worker_takes_no_parts():
    work = worker_of(Device(), 10)
    with work.submit(nothing) as submission:
        submission.add([pair(3)])
        work.close()
        with pytest.raises(RuntimeError, match="closed"):
            submission.add([pair(3)])


def test_a_full_queue_holds_parts_up_and_loses_nothing():
    device = Device()
    work = worker_of(device, 10, max_waiting=4)
    parts = [[pair(10, n) for _ in range(3)] for n in range(12)]

    def in_parts():
        with work.submit(nothing) as submission:
            for part in parts:
                submission.add(part)
                assert work._waiting() <= 4
            return submission.result().tolist()

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(in_parts) for _ in range(4)]:
            assert future.result(20) == [value for part in parts for value in expected(part)]


def test_many_threads_many_sizes():
    device = Device()
    work = worker_of(device, 64, padded=False)
    draw = np.random.default_rng(0)
    requests = [[pair(int(length), n) for length in draw.integers(1, 60, draw.integers(1, 30))] for n in range(40)]
    barrier = threading.Barrier(8)

    def run(number):
        if number < 8:
            barrier.wait()
        return work.run(requests[number], nothing).tolist()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, range(40))) == [expected(pairs) for pairs in requests]
    assert device.most_at_once == 2
    assert all(sum(batch) <= 64 for batch in device.recorder.batches)
