"""Threads and tasks at one reranker: the answers of a quiet process, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.texts import texts_of

from biorerank_plugins import BioReranker
from biorerank_plugins.errors import OverloadedError, ScoringTimeoutError
from biorerank_plugins.runtime.calls import Call, Watch

QUERIES = ["is p53 a tumour suppressor", "what is brca1", "aspirin platelets heart " * 30]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"top_k": 3},
    {"evidence": 1, "top_k": 2},
    {"min_score": 0.5},
    {"min_probability": 0.1, "timeout": 300.0},
    {"deduplicate": "text"},
]
SETTINGS: list[dict[str, Any]] = [
    {},
    {"max_length": 48, "query_max_length": 12},
    {"windows": False},
    {"windows": "mean-top-2", "window_length": 20},
    {"backend": "torch"},
    {"dtype": "bfloat16"},
    {"cache_bytes": 20_000},
]
# A cached logit was computed beside other pairs. The tiny model's weights are ten times those of a trained one, and so
# is what rounding does to its logits; without a cache the bits are the same.
NOISE = 1e-5


def _answer(ranking) -> list[tuple]:
    return [
        (line.input_index, line.logit, line.score, line.n_windows, line.truncated, line.evidence) for line in ranking
    ]


@pytest.fixture
def rerankers(tiny_cross_encoder_dir: Path) -> Iterator[list[BioReranker]]:
    made = [BioReranker(tiny_cross_encoder_dir, device="cpu", **{"dtype": "float32", **one}) for one in SETTINGS]
    yield made
    for one in made:
        one.close()


def _stress(rerankers: list[BioReranker], threads: int, calls: int) -> int:
    """Return how many answers differ from those of one thread."""
    requests = [
        (reranker, query, texts_of(n, seed=seed, longest=longest), OPTIONS[seed % len(OPTIONS)])
        for reranker in rerankers
        for seed, (n, longest) in enumerate([(1, 10), (7, 200), (12, 30), (3, 90), (20, 5), (5, 60)])
        for query in QUERIES
    ]
    alone = [_answer(reranker.rank(query, texts, **options)) for reranker, query, texts, options in requests]

    def work(thread: int) -> int:
        draw = np.random.default_rng(thread)
        different = 0
        for number in draw.integers(len(requests), size=calls).tolist():
            reranker, query, texts, options = requests[number]
            got = _answer(reranker.rank(query, texts, **options))
            different += not _same(got, alone[number], exact=reranker.cache_info().max_bytes == 0)
        return different

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(work, range(threads)))


def _same(got: list[tuple], expected: list[tuple], *, exact: bool) -> bool:
    if exact:
        return got == expected
    logits = dict(line[:2] for line in expected)
    return got == expected or all(abs(logits.get(line[0], np.inf) - line[1]) <= 10 * NOISE for line in got)


def test_sixteen_threads_get_the_answers_of_one(rerankers):
    assert _stress(rerankers, threads=16, calls=20) == 0


@pytest.mark.slow
def test_sixteen_threads_get_the_answers_of_one_500_times_each(rerankers):
    assert _stress(rerankers, threads=16, calls=500) == 0


def test_two_hundred_tasks_get_the_answers_of_one(rerankers):
    requests = [
        (
            rerankers[seed % len(rerankers)],
            QUERIES[seed % 3],
            texts_of(1 + seed % 9, seed=seed, longest=60),
            OPTIONS[seed % 6],
        )
        for seed in range(200)
    ]
    alone = [_answer(reranker.rank(query, texts, **options)) for reranker, query, texts, options in requests]

    async def all_of_them() -> list:
        return await asyncio.gather(*(one.arank(query, texts, **options) for one, query, texts, options in requests))

    for (reranker, *_), got, expected in zip(requests, asyncio.run(all_of_them()), alone, strict=True):
        assert _same(_answer(got), expected, exact=reranker.cache_info().max_bytes == 0)


# Held up: a model that stands still until it is told to go on


class Held:
    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.started = threading.Event()
        self.asked: list[str] = []

    def logits(self, query, texts):
        self.asked.append(query)
        self.started.set()
        assert self.go_on.wait(30)
        return [0.0] * len(texts)


@pytest.fixture
def held() -> Iterator[Held]:
    model = Held()
    yield model
    model.go_on.set()


@pytest.fixture
def busy(tiny_cross_encoder_dir: Path) -> Iterator[tuple[BioReranker, Callable[[], None]]]:
    """A reranker of the token path whose scoring thread stands still, and what lets it go on."""
    reranker = BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32")
    go_on, stands = threading.Event(), threading.Event()

    def stand(_: int) -> None:
        if threading.current_thread() is not thread:  # also asked before texts are tokenised, in the caller's own
            stands.set()
            assert go_on.wait(30)

    scorer = (reranker.warm_up(), reranker._scorer)[1]

    def score() -> None:
        with suppress(RuntimeError):  # where the test closes the reranker
            scorer.score([("a", "b")] * 3, Watch(Call(), 3, stand))

    thread = threading.Thread(target=score)
    thread.start()
    assert stands.wait(10)
    yield reranker, go_on.set
    go_on.set()
    thread.join(30)
    reranker.close()


def _in_thread(call: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    results: list[object] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, results


def test_a_call_for_which_there_is_no_room_is_refused_at_once(held):
    with BioReranker(held, max_waiting=5) as reranker:
        thread, results = _in_thread(lambda: reranker.rank("first", ["a", "b", "c"]))
        assert held.started.wait(10)
        with pytest.raises(OverloadedError, match=r"3 passages under way, and no room for 3 more: max_waiting=5"):
            reranker.rank("second", ["a", "b", "c"])
        with pytest.raises(OverloadedError):
            asyncio.run(reranker.arank("second", ["a", "b", "c"]))
        with pytest.raises(OverloadedError):
            reranker.score("second", ["a", "b", "c"])
        other, others = _in_thread(lambda: reranker.rank("third", ["a", "b"]))  # there is room for two
        held.go_on.set()
        thread.join(10)
        other.join(10)
        assert [len(results[0]), len(others[0])] == [3, 2]
        assert held.asked == ["first", "third"]
        assert len(reranker.rank("alone", ["a"] * 9)) == 9  # more than fit, when nothing else is under way
        assert len(reranker.rank("again", ["a", "b", "c"])) == 3


def test_calls_that_fail_give_their_places_back():
    class Fails:
        def logits(self, query, texts):
            raise OSError("no connection")

    with BioReranker(Fails(), max_waiting=2) as reranker:
        for _ in range(5):
            for call in (reranker.rank, reranker.score, lambda *given: asyncio.run(reranker.arank(*given))):
                with pytest.raises(OSError, match="no connection"):
                    call("q", ["a", "b"])


def test_a_cancelled_task_gives_its_place_back_at_once(held):
    async def scenario() -> None:
        first = asyncio.create_task(reranker.arank("first", ["a", "b", "c"]))
        while not held.started.is_set():
            await asyncio.sleep(0.01)
        with pytest.raises(OverloadedError):
            await reranker.arank("refused", ["a"])
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        second = asyncio.create_task(reranker.arank("second", ["a", "b", "c"]))
        await asyncio.sleep(0.05)
        assert not second.done()  # it was taken
        held.go_on.set()
        assert len(await second) == 3

    with BioReranker(held, max_waiting=3) as reranker:
        asyncio.run(scenario())


def test_cancelled_tasks_leave_no_waiting_thread_behind(busy):
    """Eight threads wait for the scoring thread, which stands still; cancelled, they serve others."""
    reranker, go_on = busy

    async def scenario() -> None:
        tasks = [asyncio.create_task(reranker.arank(QUERIES[0], ["p53", "cells"])) for _ in range(40)]
        await asyncio.sleep(0.3)
        for task in tasks:
            task.cancel()
        assert all(
            isinstance(one, asyncio.CancelledError) for one in await asyncio.gather(*tasks, return_exceptions=True)
        )
        started = time.perf_counter()
        with pytest.raises(ValueError, match="The query is empty"):  # gets a thread, though nothing is scored meanwhile
            await reranker.arank("", ["p53"])
        assert time.perf_counter() - started < 5
        assert reranker._scorer._worker._waiting() <= 3  # nothing of theirs waits
        go_on()
        assert len(await reranker.arank(QUERIES[0], ["p53", "cells"])) == 2

    asyncio.run(scenario())


@pytest.mark.parametrize("how", ["rank", "arank"])
def test_a_time_limit_ends_a_call_while_others_are_computed(busy, how):
    reranker, go_on = busy
    started = time.perf_counter()
    with pytest.raises(ScoringTimeoutError, match=r"more than 0\.2 seconds"):
        if how == "rank":
            reranker.rank(QUERIES[0], ["p53", "cells"], timeout=0.2)
        else:
            asyncio.run(reranker.arank(QUERIES[0], ["p53", "cells"], timeout=0.2))
    assert 0.15 < time.perf_counter() - started < 5  # and not when the scoring thread goes on
    assert reranker._scorer._worker._waiting() <= 3  # its place in the queue is free
    go_on()
    assert len(reranker.rank(QUERIES[0], ["p53", "cells"], timeout=60)) == 2


def test_a_task_that_waits_for_a_thread_is_not_late(held):
    """The time that it waits in front of the threads counts, also where the model cannot be interrupted."""

    async def scenario() -> None:
        tasks = [asyncio.create_task(reranker.arank(f"q{n}", ["a"], timeout=0.3)) for n in range(30)]
        started = time.perf_counter()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert time.perf_counter() - started < 5
        assert all(isinstance(one, ScoringTimeoutError) for one in found)
        held.go_on.set()
        assert len(held.asked) <= 8
        assert len(await reranker.arank("later", ["a"])) == 1
        assert len(held.asked) <= 9  # those that never got a thread were forgotten

    with BioReranker(held) as reranker:
        asyncio.run(scenario())


def test_a_time_limit_is_looked_at_while_texts_are_cut_and_tokenised(tiny_cross_encoder_dir):
    """The whole of this takes many times the limit, and no batch is computed meanwhile."""
    long = [f"{n} " + "insulin lowers glucose in cells. " * 400 for n in range(3000)]
    short = [f"{n} insulin lowers glucose" for n in range(100_000)]
    with BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32") as reranker:
        reranker.warm_up()
        for texts, state in ((long, "nothing was scored yet"), (short, "0 of 100000 texts were scored")):
            started = time.perf_counter()
            with pytest.raises(ScoringTimeoutError, match=state):
                reranker.rank("insulin", texts, timeout=1.0 if texts is short else 0.5)
            assert time.perf_counter() - started < 20
        assert len(reranker.rank("insulin", long[:2], timeout=60)) == 2


def test_closing_ends_the_calls_under_way_and_no_others(busy, tiny_cross_encoder_dir):
    reranker, go_on = busy
    other = BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32")
    other.warm_up()
    assert other._scorer is reranker._scorer
    thread, results = _in_thread(lambda: reranker.rank(QUERIES[0], ["p53", "cells"]))
    fine, answers = _in_thread(lambda: other.rank(QUERIES[0], ["p53", "cells"]))
    time.sleep(0.3)
    reranker.close()
    thread.join(10)
    assert isinstance(results[0], RuntimeError)
    assert "closed while it was scoring" in str(results[0])
    go_on()
    fine.join(10)
    assert len(answers[0]) == 2
    other.close()


def test_closing_ends_tasks_that_wait(busy):
    reranker, go_on = busy

    async def scenario() -> list:
        tasks = [asyncio.create_task(reranker.arank(QUERIES[0], ["p53"])) for _ in range(20)]
        await asyncio.sleep(0.3)
        threading.Timer(0.3, go_on).start()
        await asyncio.to_thread(reranker.close)
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert all(isinstance(one, RuntimeError) and "closed" in str(one) for one in asyncio.run(scenario()))


# One copy in memory


@pytest.fixture
def own_folder(tiny_cross_encoder_dir, tmp_path):
    """A model that no other test's reranker has a share in."""
    return Path(shutil.copytree(tiny_cross_encoder_dir, tmp_path / "model"))


def test_rerankers_of_the_same_model_share_it_and_the_last_one_frees_it(own_folder):
    def make(**options: Any) -> BioReranker:
        return BioReranker(own_folder, device="cpu", **{"dtype": "float32", **options})

    first, second, other = make(), make(windows=False, template="{text}", cache_bytes=1000), make(max_length=64)
    loaded = [(one.warm_up(), one._scorer)[1] for one in (first, second, other)]
    assert loaded[0] is loaded[1]
    assert loaded[0] is not loaded[2]
    backend = weakref.ref(loaded[0]._backend)
    del loaded
    first.close()
    first.close()
    assert len(second.rank(QUERIES[0], ["p53"])) == 1
    with pytest.raises(RuntimeError, match="closed"):
        first.rank(QUERIES[0], ["p53"])
    second.close()
    gc.collect()
    assert backend() is None
    assert len(other.rank(QUERIES[0], ["p53"])) == 1
    other.close()


def test_a_reranker_that_was_forgotten_holds_nothing(own_folder):
    kept = BioReranker(own_folder, device="cpu", dtype="float32")
    forgotten = BioReranker(own_folder, device="cpu", dtype="float32")
    assert (kept.warm_up(), kept._scorer)[1] is (forgotten.warm_up(), forgotten._scorer)[1]
    backend = weakref.ref(kept._scorer._backend)
    del forgotten
    gc.collect()
    assert len(kept.rank(QUERIES[0], ["p53"])) == 1
    kept.close()
    gc.collect()
    assert backend() is None


def test_a_model_whose_files_were_replaced_is_another_one(own_folder):
    from safetensors.torch import load_file, save_file

    folder = own_folder
    old = BioReranker(folder, device="cpu", dtype="float32")
    before = old.score(QUERIES[0], ["p53"])
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"] = weights["classifier.bias"] + 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    new = BioReranker(folder, device="cpu", dtype="float32")
    assert new.score(QUERIES[0], ["p53"]) != before
    assert old.score(QUERIES[0], ["p53"]) == before
    old.close()
    new.close()


def test_threads_that_open_and_close_get_right_answers(tiny_cross_encoder_dir):
    def use(number: int) -> list[float]:
        with BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32") as reranker:
            return reranker.score(QUERIES[0], ["p53 tumours", "cells"])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(use, range(24)))
    assert answers == [answers[0]] * 24


@pytest.mark.parametrize("backend", ["packed", "torch"])
def test_nothing_is_left_after_closing(tiny_cross_encoder_dir, backend):
    def once() -> weakref.ref:
        with BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32", backend=backend) as reranker:
            reranker.rank(QUERIES[0], ["p53", "cells"])
            asyncio.run(reranker.arank(QUERIES[0], ["p53", "cells"]))
            return weakref.ref(reranker._scorer._backend)

    once()
    before = threading.active_count()
    backends = [once() for _ in range(8)]
    gc.collect()
    assert [one() for one in backends] == [None] * 8
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "1"])
def test_an_impossible_limit_is_refused(value):
    with pytest.raises(ValueError, match="max_waiting must be a whole number of at least 1"):
        BioReranker(max_waiting=value)
