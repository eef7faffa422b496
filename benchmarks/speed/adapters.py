"""What the adapters cost beside calling the core, and whether they hold an event loop.

    python -m benchmarks.speed.adapters --out benchmarks/results/adapters.json

On the demo collection, with the embedded reranker. Calls of an adapter and of the core take turns in one process, so
that whatever else the machine does falls on both; the overhead is the median of the differences of neighbouring calls.
It is measured a second time with a model that costs nothing, which shows the adapter's own time without the noise of
the model's. The lag is how much later than asked a sleeping task wakes up while questions are answered at once; the
control is the same task with nothing else to do.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Protocol

from benchmarks.common import DEMO, lag, machine, overhead, parser_of, write_result
from biorerank_plugins import BioReranker, Candidate, Passage
from biorerank_plugins.readers import read_passages, read_queries
from biorerank_plugins.testing import ScriptedScorer

RESULT = "adapters.json"
KEYS = ("note", "machine", "llama_index", "haystack", "langchain")
HOSTS = ("llama_index", "haystack", "langchain")
PACKAGES = ("llama-index-core", "haystack-ai", "langchain-core")
TEMPLATE = "{title}. {text}"
TOP = 10

Scores = Callable[[], Sequence[float]]
"""A call that gives the scores of what it ranked."""
Work = Callable[[str], Awaitable[object]]
"""A call that ranks for a question without holding the event loop."""


class Host(Protocol):
    """What a module ``adapters_…`` of this folder gives."""

    def ranked(self, model: Any, question: str, candidates: Sequence[Candidate]) -> Scores:
        """Return the call of the adapter over a model."""
        ...

    def works(self, candidates: Sequence[Candidate]) -> Mapping[str, Work]:
        """Return what the host does at once, by name."""
        ...


@dataclass(frozen=True)
class Material:
    """Questions, and candidates as the core has them."""

    questions: Sequence[str]
    candidates: Sequence[Candidate]


def read_material(candidates: int, questions: int) -> Material:
    asked = [query.text for query in islice(cycle(read_queries(DEMO / "queries.jsonl")), questions)]
    passages = islice(cycle(read_passages(DEMO / "corpus.jsonl")), candidates)
    given = [
        Candidate(Passage(f"d{n}", one.text, one.title, one.metadata), 1 - n / candidates, n + 1)
        for n, one in enumerate(passages)
    ]
    return Material(asked, given)


def free() -> ScriptedScorer:
    """A model that costs nothing."""
    return ScriptedScorer(lambda _, text: float(len(text) % 7))


def compared(host: Host, model: Any, material: Material, rounds: int) -> dict[str, Any]:
    """Time an adapter and the core over a model each."""
    with BioReranker(model, template=TEMPLATE) as reranker:
        question, candidates = material.questions[0], material.candidates
        adapter = host.ranked(model, question, candidates)

        def core() -> list[float]:
            return [line.score for line in reranker.rank(question, candidates, top_k=TOP)]

        return {"same_scores": list(adapter()) == core(), **overhead(core, adapter, rounds)}


async def lags(host: Host, material: Material) -> dict[str, Any]:
    """Measure the lag of an idle loop, and while all questions are answered by the host, and by the core."""

    async def while_asking(work: Work) -> dict[str, float]:
        await work(material.questions[0])  # models are loaded, and threads started

        async def all_at_once() -> None:
            await asyncio.gather(*map(work, material.questions))

        return await lag(all_at_once)

    with BioReranker(template=TEMPLATE) as reranker:

        async def core(question: str) -> object:
            return await reranker.arank(question, material.candidates, top_k=TOP)

        works = {"core": core, **host.works(material.candidates)}
        found = {name: await while_asking(work) for name, work in works.items()}
    return {"idle": await lag(lambda: asyncio.sleep(5.0)), **found}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--host", action="append", choices=HOSTS, help="may be given repeatedly; all if not given")
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--questions", type=int, default=32, help="at once")
    parser.add_argument("--candidates-of-a-question", type=int, default=10)
    parser.add_argument("--free-only", action="store_true", help="only the model that costs nothing")
    parser.add_argument("--note", help="what else the machine was doing")
    parser.add_argument("--out", type=Path, help="JSON to write")
    args = parser.parse_args()
    os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")
    result: dict[str, Any] = {"note": args.note, "machine": machine(packages=PACKAGES)}
    material = read_material(args.candidates, args.questions)
    for name in args.host or HOSTS:
        host: Any = importlib.import_module(f"benchmarks.speed.adapters_{name}")
        result[name] = found = {"candidates": args.candidates, "rounds": args.rounds}
        found["free_model"] = compared(host, free(), material, args.rounds)
        if not args.free_only:
            found["embedded_model"] = compared(host, None, material, args.rounds)
            few = Material(material.questions, material.candidates[: args.candidates_of_a_question])
            found["questions_at_once"] = len(few.questions)
            found["event_loop_lag"] = asyncio.run(lags(host, few))
        print(json.dumps({name: found}, indent=2), flush=True)
    write_result(args.out, result, KEYS)


if __name__ == "__main__":
    main()
