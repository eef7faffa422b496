"""What the LangChain adapter costs beside calling the core, and whether it holds the event loop; prints JSON.

    python benchmarks/adapters_langchain.py > build/adapters-langchain.json

On the demo collection, with the embedded models. Calls of the adapter and of the core take turns in one process, so
that whatever else the machine does hits both. It is measured a second time with a model that costs nothing, which shows
the adapter's own time without the noise of the model's. The lag is how much later than asked a sleeping task wakes up
while 32 questions are answered at once, by the core, the compressor and the retriever; the control is the same task
with nothing else to do, before and after.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from langchain_core.documents import Document

from biorerank_plugins import BioReranker, Candidate, Passage, PassageIndex, models
from biorerank_plugins.langchain import BioRerankCompressor, BioRetriever
from biorerank_plugins.readers import read_passages, read_queries

DEMO = Path(models.__file__).parents[1] / "demo"
TOP = 10
TICK = 0.005
TEMPLATE = "{title}. {text}"


class Free:
    """A model that costs nothing."""

    def logits(self, query: str, texts: Sequence[str]) -> list[float]:
        return [float(len(text) % 7) for text in texts]


def material(count: int) -> tuple[list[str], list[Candidate], list[Document]]:
    """Return questions, and ``count`` candidates as the core and as LangChain have them."""
    questions = [query.text for query in read_queries(DEMO / "queries.jsonl")]
    passages = list(islice(cycle(read_passages(DEMO / "corpus.jsonl")), count))
    candidates = [
        Candidate(Passage(f"d{n}", p.text, p.title, p.metadata), 1 - n / count, n + 1) for n, p in enumerate(passages)
    ]
    documents = [
        Document(
            id=c.passage.id,
            page_content=c.passage.text,
            metadata={**c.passage.metadata, "title": c.passage.title, "retrieval_score": c.score},
        )
        for c in candidates
    ]
    return questions, candidates, documents


def seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def overhead(model: Any, count: int, rounds: int) -> dict[str, Any]:
    [question, *_], candidates, documents = material(count)
    reranker = BioReranker(model, template=TEMPLATE)
    compressor = BioRerankCompressor(model=model, template=TEMPLATE, top_n=TOP)

    def core() -> list[float]:
        return [line.score for line in reranker.rank(question, candidates, top_k=TOP)]

    def adapter() -> list[float]:
        return [d.metadata["relevance_score"] for d in compressor.compress_documents(documents, question)]

    same = core() == adapter()  # and both models are loaded
    times: list[tuple[float, float]] = []
    for number in range(rounds):
        # Each of them goes first in every other round.
        if number % 2:
            late = seconds(adapter)
            times.append((seconds(core), late))
        else:
            times.append((seconds(core), seconds(adapter)))
    of_core, of_adapter = (statistics.median(column) for column in zip(*times, strict=True))
    difference = statistics.median(late - early for early, late in times)
    return {
        "candidates": count,
        "rounds": rounds,
        "core_ms": 1000 * of_core,
        "adapter_ms": 1000 * of_adapter,
        "overhead_ms": 1000 * difference,
        "overhead_percent": 100 * difference / of_core,
        "same_scores": same,
    }


async def lags(work: Awaitable[Any]) -> list[float]:
    """Return by how many seconds a task that sleeps for ``TICK`` woke up late, again and again, until ``work`` ends."""
    late: list[float] = []

    async def tick() -> None:
        while True:
            wanted = time.perf_counter() + TICK
            await asyncio.sleep(TICK)
            late.append(time.perf_counter() - wanted)

    ticking = asyncio.create_task(tick())
    await work
    ticking.cancel()
    return late


def summary(late: Sequence[float]) -> dict[str, float]:
    return {
        "ticks": len(late),
        "p50_ms": 1000 * float(np.percentile(late, 50)),
        "p99_ms": 1000 * float(np.percentile(late, 99)),
        "max_ms": 1000 * max(late),
    }


async def concurrency(count: int, queries: int, idle: float) -> dict[str, Any]:
    questions, candidates, documents = material(count)
    asked = list(islice(cycle(questions), queries))
    compressor, reranker = BioRerankCompressor(top_n=TOP), BioReranker()
    index = PassageIndex.build(read_passages(DEMO / "corpus.jsonl"))
    retriever = BioRetriever(index=index, k=100)
    await compressor.acompress_documents(documents[:2], asked[0])  # models are loaded and threads started
    await reranker.arank(asked[0], candidates[:2])
    await retriever.ainvoke(asked[0])
    result: dict[str, Any] = {"queries": queries, "candidates_of_a_query": count}
    result["idle_before"] = summary(await lags(asyncio.sleep(idle)))
    for name, work in (
        ("core", lambda question: reranker.arank(question, candidates, top_k=TOP)),
        ("compressor", lambda question: compressor.acompress_documents(documents, question)),
        ("retriever", retriever.ainvoke),
    ):
        started = time.perf_counter()
        late = await lags(asyncio.gather(*map(work, asked)))
        result[name] = {"seconds": time.perf_counter() - started, **summary(late)}
    result["idle_after"] = summary(await lags(asyncio.sleep(idle)))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--queries", type=int, default=32)
    parser.add_argument("--candidates-of-a-query", type=int, default=20)
    parser.add_argument("--idle", type=float, default=5.0, help="seconds of each control")
    parser.add_argument("--free-only", action="store_true", help="only the model that costs nothing")
    arguments = parser.parse_args()
    report: dict[str, Any] = {
        "machine": {
            "cpus": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "load_at_start": os.getloadavg()[0],
        },
        "free_model": overhead(Free(), arguments.candidates, arguments.rounds),
    }
    if not arguments.free_only:
        report["embedded_model"] = overhead(None, arguments.candidates, arguments.rounds)
        report["event_loop"] = asyncio.run(
            concurrency(arguments.candidates_of_a_query, arguments.queries, arguments.idle)
        )
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
