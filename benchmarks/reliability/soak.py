"""Run one reranker at full load for minutes, and open and close many; exits with 1 where a goal is missed.

    python -m benchmarks.reliability.soak --seconds 600 --rounds 200 --out benchmarks/results/soak.json

Threads rank requests of mixed sizes, lengths and options with the embedded model, tasks do the same beside them, and
some are cancelled or run out of time. Each answer is compared with that of one quiet thread. Memory is read all along:
its growth is from the mean of the second tenth of the run to that of the last tenth. Then 32 callers ask at once, and
their slowest answers are compared with the ideal: 32 times what one alone takes, or all of them as one call, whichever
is faster. At last models are opened, used and closed.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import platform
import statistics
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import parser_of, resident, write_result

RESULT = "soak.json"
KEYS = (
    "version", "torch", "python", "cpus", "torch_threads", "settings", "note", "soak", "cache_hit_rate", "latency",
    "open_close", "goals",
)  # fmt: skip

TOLERANCE = 1e-5
GOAL_GROWTH = 2.0  # per cent
QUESTIONS = [
    "Does burosumab raise serum phosphate?",
    "Which mutations make melanoma resistant to vemurafenib?",
    "Is metformin safe in chronic kidney disease?",
]
SENTENCES = [
    "Burosumab, an antibody against FGF23, raised serum phosphate in children with X-linked hypophosphataemia.",
    "Resistance to vemurafenib arises by NRAS mutations and by amplification of BRAF.",
    "Metformin is cleared by the kidney; the dose is lowered when the glomerular filtration rate falls.",
    "Patients were followed for 24 months, and adverse events were recorded at each visit.",
    "No difference was seen between the groups (p = 0.42).",
]
OPTIONS: list[dict[str, Any]] = [{}, {"top_k": 3}, {"min_probability": 0.1}, {"evidence": 1, "top_k": 1}]


def make_requests(count: int) -> list[tuple[str, list[str], dict[str, Any]]]:
    """Make requests of one to 24 passages, of one sentence to far more than the model reads at once."""
    draw = np.random.default_rng(0)
    requests = []
    for number in range(count):
        sizes = draw.choice([1, 2, 5, 12, 40], size=int(draw.choice([1, 4, 10, 24])), p=[0.4, 0.3, 0.2, 0.08, 0.02])
        texts = [" ".join(draw.choice(SENTENCES, size=size)) for size in sizes.tolist()]
        requests.append((QUESTIONS[number % 3], texts, OPTIONS[number % len(OPTIONS)]))
    return requests


def answer(ranking: Any) -> list[tuple[int, float]]:
    return [(line.input_index, line.logit) for line in ranking]


def same(got: list[tuple[int, float]], expected: list[tuple[int, float]]) -> bool:
    """Return whether places and logits agree; equal but for rounding, two passages may change places."""
    if len(got) != len(expected):
        return False
    values = all(abs(one[1] - other[1]) <= TOLERANCE for one, other in zip(got, expected, strict=True))
    known = dict(expected)
    return values and all(abs(known.get(place, logit) - logit) <= TOLERANCE for place, logit in got)


class Load:
    """Threads and tasks that rank until they are told to stop.

    :param rerankers: what they share; each request goes to one of them.
    :param requests: what they ask.
    """

    def __init__(self, rerankers: list[Any], requests: list[tuple[str, list[str], dict[str, Any]]]) -> None:
        self.work = [(one, *request) for one in rerankers for request in requests]
        self.expected = [answer(one.rank(query, texts, **options)) for one, query, texts, options in self.work]
        self.stop = threading.Event()
        self.seen: Counter[str] = Counter()
        self.lock = threading.Lock()

    def note(self, what: str, number: int = 1) -> None:
        with self.lock:
            self.seen[what] += number

    def thread(self, seed: int) -> None:
        draw = np.random.default_rng(seed)
        while not self.stop.is_set():
            number = int(draw.integers(len(self.work)))
            reranker, query, texts, options = self.work[number]
            try:
                timeout = 0.02 if draw.random() < 0.05 else None
                got = answer(reranker.rank(query, texts, **options, timeout=timeout))
            except TimeoutError:
                self.note("timeouts")
                continue
            self.note("calls")
            if not same(got, self.expected[number]):
                self.note("mismatches")

    async def task(self, seed: int) -> None:
        draw = np.random.default_rng(seed)
        while not self.stop.is_set():
            number = int(draw.integers(len(self.work)))
            reranker, query, texts, options = self.work[number]
            call = asyncio.ensure_future(reranker.arank(query, texts, **options))
            if draw.random() < 0.05:
                await asyncio.sleep(0.01)
                call.cancel()
            try:
                got = answer(await call)
            except asyncio.CancelledError:
                self.note("cancelled")
                continue
            self.note("calls")
            if not same(got, self.expected[number]):
                self.note("mismatches")

    async def tasks(self, count: int) -> None:
        await asyncio.gather(*(self.task(1000 + seed) for seed in range(count)))


def soak(rerankers: list[Any], seconds: float, threads: int, tasks: int) -> dict[str, Any]:
    """Run at full load, and return calls, mismatches and growth of memory."""
    load = Load(rerankers, make_requests(40))
    samples: list[tuple[float, int]] = []
    started = time.monotonic()
    with ThreadPoolExecutor(threads + 1) as pool:
        futures = [pool.submit(load.thread, seed) for seed in range(threads)]
        futures.append(pool.submit(asyncio.run, load.tasks(tasks)))
        while time.monotonic() - started < seconds and not any(future.done() for future in futures):
            time.sleep(min(1.0, seconds / 100))
            samples.append((time.monotonic() - started, resident()))
        load.stop.set()
        for future in futures:
            future.result()
    tenth = max(1, len(samples) // 10)
    first = statistics.mean(memory for _, memory in samples[tenth : 2 * tenth] or samples)
    last = statistics.mean(memory for _, memory in samples[-tenth:])
    return {
        "seconds": round(time.monotonic() - started, 1),
        "threads": threads,
        "tasks": tasks,
        **{name: load.seen[name] for name in ("calls", "mismatches", "timeouts", "cancelled")},
        "tolerance": TOLERANCE,
        "memory_mb_at_a_fifth": round(first / 1e6, 1),
        "memory_mb_at_the_end": round(last / 1e6, 1),
        "memory_growth_per_cent": round(100 * (last / first - 1), 2),
    }


def latency(reranker: Any, callers: int, rounds: int) -> dict[str, Any]:
    """Let callers ask at once, and compare their 99th percentile with the ideal, in the same run."""
    texts = [" ".join(SENTENCES[n % 5 :][:2]) + f" {n}" for n in range(20)]
    requests = [(f"{QUESTIONS[n % 3]} {n}", texts) for n in range(callers)]

    def timed(call: Any, *given: Any) -> float:
        begun = time.perf_counter()
        call(*given)
        return time.perf_counter() - begun

    alone, merged, together = [], [], []
    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(lambda _: time.sleep(0.05), range(callers)))  # starts the threads
        for _ in range(rounds):  # in turn: whatever else the machine does reaches all three
            alone.append(timed(reranker.rank, *requests[0]))
            merged.append(timed(reranker.rank_many, requests))
            together += pool.map(lambda request: timed(reranker.rank, *request), requests)
    one, all_as_one = statistics.median(alone), statistics.median(merged)
    ideal = min(callers * one, all_as_one)
    p99 = float(np.quantile(together, 0.99))
    return {
        "callers": callers,
        "passages_each": len(texts),
        "rounds": rounds,
        "one_alone_ms": round(1e3 * one, 1),
        "all_in_one_call_ms": round(1e3 * all_as_one, 1),
        "p50_ms": round(1e3 * float(np.quantile(together, 0.5)), 1),
        "p99_ms": round(1e3 * p99, 1),
        "ideal_ms": round(1e3 * ideal, 1),
        "p99_over_ideal": round(p99 / ideal, 3),
    }


def open_and_close(rounds: int, **options: Any) -> dict[str, Any]:
    """Open, use and close models, and return what is left of threads and memory."""
    from biorerank_plugins import BioReranker

    threads, memory = [], []
    for _ in range(rounds):
        with BioReranker(**options) as reranker:
            reranker.rank(QUESTIONS[0], SENTENCES)
            asyncio.run(reranker.arank(QUESTIONS[1], SENTENCES))
        threads.append(_threads_when_quiet())
        memory.append(resident() / 1e6)
    # What a library sets up once is there after some rounds; a leak goes on.
    early = memory[len(memory) // 4 :][: max(1, len(memory) // 10)]
    late = memory[-max(1, len(memory) // 10) :]
    return {
        **options,
        "rounds": rounds,
        "threads_after_first": threads[0],
        "threads_after_last": threads[-1],
        "memory_mb_after_first": round(memory[0], 1),
        "memory_mb_after_a_quarter": round(statistics.mean(early), 1),
        "memory_mb_after_last": round(statistics.mean(late), 1),
        "kb_a_round": round(1e3 * (statistics.mean(late) - statistics.mean(early)) / max(1, rounds * 0.675), 1),
    }


def _threads_when_quiet() -> int:
    """Count the threads of Python, after those that were told to end had time to."""
    gc.collect()
    deadline = time.monotonic() + 2
    while threading.active_count() > 1 and time.monotonic() < deadline:
        time.sleep(0.005)
    return threading.active_count()


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="length of the soak")
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--tasks", type=int, default=16)
    parser.add_argument("--callers", type=int, default=32)
    parser.add_argument("--latency-rounds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=200, help="how often each backend is opened and closed")
    parser.add_argument("--backends", default="packed,torch", help="those that are opened and closed, with commas")
    parser.add_argument("--short", action="store_true", help="20 seconds, 5 rounds: under a minute on a quiet machine")
    parser.add_argument("--note", help="what else the machine was doing")
    parser.add_argument("--out", type=Path, help="write the result here as JSON")
    args = parser.parse_args()
    if args.short:
        args.seconds, args.latency_rounds, args.rounds = min(args.seconds, 20), 2, min(args.rounds, 5)

    import torch

    from biorerank_plugins import BioReranker, __version__

    common: dict[str, Any] = {"device": "cpu", "dtype": "float32"}
    settings = [{}, {"max_length": 128}, {"windows": False}, {"cache_bytes": 200_000}]
    rerankers = [BioReranker(**common, **one) for one in settings]
    result: dict[str, Any] = {
        "version": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "settings": settings,
        "note": args.note,
        "soak": soak(rerankers, args.seconds, args.threads, args.tasks),
    }
    result["cache_hit_rate"] = round(rerankers[3].cache_info().hit_rate, 3)
    result["latency"] = latency(rerankers[0], args.callers, args.latency_rounds)
    for one in rerankers:
        one.close()
    result["open_close"] = [
        open_and_close(args.rounds, **common, backend=backend) for backend in args.backends.split(",") if args.rounds
    ]
    growth = result["soak"]["memory_growth_per_cent"]
    result["goals"] = {
        "mismatches_0": result["soak"]["mismatches"] == 0,
        # A short run is over before libraries have set up what they set up once.
        f"memory_growth_under_{GOAL_GROWTH:g}_per_cent": growth < GOAL_GROWTH if args.seconds >= 300 else None,
        "no_thread_left": all(one["threads_after_last"] <= one["threads_after_first"] for one in result["open_close"]),
    }
    print(json.dumps(result, indent=2))
    write_result(args.out, result, KEYS)
    return 0 if all(met is not False for met in result["goals"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
