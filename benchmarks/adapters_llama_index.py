"""What the LlamaIndex adapter costs beside calling the core, and whether it holds the event loop.

    python benchmarks/adapters_llama_index.py > build/adapters-llama-index.json

On the demo collection, with the embedded reranker. Calls of the adapter and of the core take turns in one process, so
that whatever else the machine does hits both; the overhead is the median of the differences of neighbouring calls. It
is measured a second time with a model that costs nothing, which shows the adapter's own time without the noise of the
model's. The lag is how much later than asked a sleeping task wakes up, while 32 questions are answered at once; the
control is the same task with nothing else to do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from llama_index.core.schema import NodeWithScore, TextNode

from biorerank_plugins import BioReranker, Candidate, Passage, models
from biorerank_plugins.llama_index import BioRerankPostprocessor
from biorerank_plugins.readers import read_passages, read_queries

DEMO = Path(models.__file__).parents[1] / "demo"
TOP = 5
Call = Callable[[], Any]


class Free:
    """A model that costs nothing."""

    def logits(self, query: str, texts: Sequence[str]) -> list[float]:
        return [float(len(text)) for text in texts]


def overhead(adapter: Call, core: Call, runs: int) -> dict[str, float]:
    adapter(), core()  # loads the model
    times: dict[str, list[float]] = {"adapter": [], "core": []}
    for number in range(runs):
        turns = [("adapter", adapter), ("core", core)]
        for name, call in turns if number % 2 else reversed(turns):
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    difference = statistics.median(a - c for a, c in zip(times["adapter"], times["core"], strict=True))
    direct = statistics.median(times["core"])
    return {
        "adapter_ms": 1000 * statistics.median(times["adapter"]),
        "core_ms": 1000 * direct,
        "overhead_ms": 1000 * difference,
        "overhead_percent": 100 * difference / direct,
    }


async def lag(work: Callable[[], Awaitable[Any]], interval: float = 0.005) -> dict[str, float]:
    late: list[float] = []
    start = time.perf_counter()
    task = asyncio.ensure_future(work())
    while not task.done():
        asked = time.perf_counter() + interval
        await asyncio.sleep(interval)
        late.append(max(0.0, time.perf_counter() - asked))
    await task
    late.sort()
    return {
        "seconds": time.perf_counter() - start,
        "ticks": len(late),
        "p50_ms": 1000 * late[len(late) // 2],
        "p99_ms": 1000 * late[int(len(late) * 0.99)],
        "max_ms": 1000 * late[-1],
    }


async def lags(
    adapter: BioRerankPostprocessor,
    core: BioReranker,
    nodes: Sequence[NodeWithScore],
    candidates: Sequence[Candidate],
    questions: Sequence[str],
) -> dict[str, dict[str, float]]:
    async def through_adapter() -> None:
        await asyncio.gather(*(adapter.apostprocess_nodes(list(nodes), query_str=question) for question in questions))

    async def through_core() -> None:
        await asyncio.gather(*(core.arank(question, candidates, top_k=TOP) for question in questions))

    found = {"adapter": await lag(through_adapter), "core": await lag(through_core)}
    return {"idle": await lag(lambda: asyncio.sleep(found["adapter"]["seconds"])), **found}


def measure(n: int = 100, runs: int = 30, concurrent: int = 32) -> dict[str, Any]:
    """Return the figures for ``n`` candidates."""
    passages = list(islice(read_passages(DEMO), n))
    questions = [query.text for query in islice(cycle(read_queries(DEMO / "queries.jsonl")), concurrent)]
    candidates = [Candidate(passage, 1 - place / n, place + 1) for place, passage in enumerate(passages)]
    nodes = [NodeWithScore(node=as_node(one.passage), score=one.score) for one in candidates]
    result: dict[str, Any] = {"candidates": n, "runs": runs, "machine": platform.processor() or platform.machine()}
    for name, model in (("embedded_model", None), ("free_model", Free())):
        adapter, core = BioRerankPostprocessor(model, top_n=TOP, template="{title}. {text}"), BioReranker(model)

        def with_adapter(adapter: BioRerankPostprocessor = adapter) -> list[NodeWithScore]:
            return adapter.postprocess_nodes(nodes, query_str=questions[0])

        def with_core(core: BioReranker = core) -> Any:
            return core.rank(questions[0], candidates, top_k=TOP)

        result[name] = overhead(with_adapter, with_core, runs)
        if model is None:
            result["same_values"] = [one.score for one in with_adapter()] == [line.score for line in with_core()]
            result["concurrent"] = concurrent
            result["event_loop_lag"] = asyncio.run(lags(adapter, core, nodes, candidates, questions))
        adapter.close()
        core.close()
    return result


def as_node(passage: Passage) -> TextNode:
    metadata = {**passage.metadata, **({"title": passage.title} if passage.title else {})}
    return TextNode(id_=passage.id, text=passage.text, metadata=metadata)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--concurrent", type=int, default=32)
    given = parser.parse_args()
    print(json.dumps(measure(given.candidates, given.runs, given.concurrent), indent=2))


if __name__ == "__main__":
    main()
