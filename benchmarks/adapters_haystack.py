"""What the Haystack ranker costs beside the core, and whether it keeps an event loop waiting; prints JSON.

    python benchmarks/adapters_haystack.py

Overhead: the same 100 candidates through ``BioReranker.rank`` and ``BioRanker.run`` over one loaded model, in turns, in
one process; the median of 30 rounds. ``without_model`` is the same with a scorer that costs nothing: what is left is
the adapter, and a machine that does other things meanwhile blurs it less. Lag: 32 queries at once through
``run_async``, while a task that wants to run every 5 ms notes how late it is; the same task without any work is the
control.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

import numpy as np
import torch
from haystack import Document

from biorerank_plugins import Candidate, Passage, demo, models
from biorerank_plugins.haystack import BioRanker
from biorerank_plugins.readers import read_passages

QUERY = "Does ranolazine suppress the late sodium current?"
TICK = 0.005


class Free:
    """A scorer that costs nothing."""

    def logits(self, query: str, texts: Sequence[str]) -> list[float]:
        return [float(len(text) % 7) for text in texts]


def candidates(count: int) -> list[Passage]:
    passages = itertools.cycle(read_passages(Path(demo.__file__).parent / "corpus.jsonl"))
    return [
        Passage(f"{number}", passage.text, passage.title, passage.metadata)
        for number, passage in enumerate(itertools.islice(passages, count))
    ]


def as_documents(passages: Sequence[Passage]) -> list[Document]:
    return [
        Document(id=one.id, content=one.text, meta={**one.metadata, "title": one.title}, score=1 / (1 + number))
        for number, one in enumerate(passages)
    ]


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def overhead(ranker: BioRanker, count: int, rounds: int) -> dict[str, float]:
    ranker.warm_up()
    reranker, _ = ranker._loaded()  # one copy of the weights: a second one lies elsewhere in memory
    passages = candidates(count)
    given = [Candidate(one, 1 / (1 + number), number + 1) for number, one in enumerate(passages)]
    documents = as_documents(passages)

    def core() -> list[tuple[str, float]]:
        ranking = reranker.rank(QUERY, given, deduplicate="id", top_k=count)
        return [(line.passage.id, line.score) for line in ranking]

    def adapter() -> list[tuple[str, float]]:
        found = ranker.run(query=QUERY, documents=documents, top_k=count)["documents"]
        return [(one.id, one.score or 0.0) for one in found]

    largest = max(abs(mine - its) for (_, mine), (_, its) in zip(adapter(), core(), strict=True))
    same_order = [name for name, _ in adapter()] == [name for name, _ in core()]
    times: list[tuple[float, float]] = []
    for number in range(rounds):
        # In turns, and each of them first in every other round: what the machine does meanwhile falls on both.
        if number % 2:
            times.append((seconds(core), seconds(adapter)))
        else:
            late = seconds(adapter)
            times.append((seconds(core), late))
    core_median, adapter_median = (statistics.median(column) for column in zip(*times, strict=True))
    return {
        "core_ms": 1000 * core_median,
        "adapter_ms": 1000 * adapter_median,
        "overhead_ms": 1000 * statistics.median(late - early for early, late in times),
        "overhead_percent": 100 * (adapter_median / core_median - 1),
        "same_order": same_order,
        "largest_difference_of_scores": largest,
    }


async def lags(work: Callable[[], Awaitable[object]]) -> list[float]:
    """Return how late a task that wants to run every few milliseconds was, in seconds."""
    late: list[float] = []
    running = asyncio.ensure_future(work())
    while not running.done():
        wanted = time.perf_counter() + TICK
        await asyncio.sleep(TICK)
        late.append(time.perf_counter() - wanted)
    await running
    return late


def percentiles(late: Sequence[float]) -> dict[str, float]:
    return {
        "ticks": len(late),
        "p50_ms": 1000 * float(np.percentile(late, 50)),
        "p99_ms": 1000 * float(np.percentile(late, 99)),
        "max_ms": 1000 * max(late),
    }


def concurrency(ranker: BioRanker, queries: int, count: int) -> dict[str, object]:
    documents = as_documents(candidates(count))

    async def work() -> None:
        await asyncio.gather(
            *(ranker.run_async(query=f"{QUERY} {number}", documents=documents) for number in range(queries))
        )

    async def measured() -> dict[str, object]:
        await ranker.run_async(query=QUERY, documents=documents[:2])  # threads are started before the clock is
        started = time.perf_counter()
        busy = await lags(work)
        elapsed = time.perf_counter() - started
        idle = await lags(lambda: asyncio.sleep(max(2.0, min(elapsed, 30.0))))
        return {"queries": queries, "seconds": elapsed, "busy": percentiles(busy), "idle": percentiles(idle)}

    return asyncio.run(measured())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="name or folder; the embedded model if not given")
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--queries", type=int, default=32)
    parser.add_argument("--candidates-of-a-query", type=int, default=10)
    arguments = parser.parse_args()
    before = os.getloadavg()[0]
    template = "{title}. {text}"
    ranker = BioRanker(model=arguments.model, template=template)
    with_model = overhead(ranker, arguments.candidates, arguments.rounds)
    without = overhead(BioRanker(model=Free(), template=template), arguments.candidates, arguments.rounds)
    result = {
        "host": "haystack",
        "model": arguments.model or models.DEFAULT_RERANKER,
        "candidates": arguments.candidates,
        "rounds": arguments.rounds,
        "torch_threads": torch.get_num_threads(),
        "load_average_before": before,
        "overhead": with_model,
        "without_model": without,
        "adapter_percent_of_core": 100 * without["overhead_ms"] / with_model["core_ms"],
        "event_loop_lag": concurrency(ranker, arguments.queries, arguments.candidates_of_a_query),
        "load_average_after": os.getloadavg()[0],
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
