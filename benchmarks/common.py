"""What the scripts share: reading rows, timing in turns, facts about the machine and the process, writing results.

Imports nothing but the package, numpy and torch: a machine with a GPU may have nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from biorerank_plugins import demo
from biorerank_plugins._common.versions import versions
from biorerank_plugins.speed.machine import describe_machine
from biorerank_plugins.speed.rerankers import assert_dtype
from biorerank_plugins.speed.rounds import measure

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

DEMO = Path(demo.__file__).parent
"""The demo collection, in BEIR's layout."""
TICK = 0.005  # seconds


def parser_of(documentation: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help is a script's documentation, as it is written."""
    return argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read JSON Lines, compressed or not."""
    opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")
    with opened as file:
        return [json.loads(line) for line in file]


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write JSON Lines, not compressed."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read_result(path: Path | None) -> dict[str, Any]:
    """Read what an earlier run has left, to complete it; nothing if there is none."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path and path.is_file() else {}
    return found


def write_result(path: Path | None, result: Any, keys: Collection[str], *, each: bool = False) -> None:
    """Write a result as JSON, unless there is no path; what a script declares is all that it writes.

    :param path: the file.
    :param result: plain JSON types.
    :param keys: the script's ``KEYS``, or its ``KEYS_OF_EACH``.
    :param each: the keys are those of each entry.
    :raises ValueError: if there are keys that are not declared.
    """
    entries = (result.values() if isinstance(result, dict) else result) if each else [result]
    others = sorted({key for entry in entries for key in entry} - set(keys))
    if others:
        raise ValueError(f"Keys that the script does not declare: {', '.join(others)}; expected {', '.join(keys)}.")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(result, indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")


def spread(times: Sequence[float], digits: int = 2) -> dict[str, float]:
    """Return the least, the middle and the most."""
    return {
        "min": round(min(times), digits),
        "median": round(statistics.median(times), digits),
        "max": round(max(times), digits),
    }


def markdown_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown.

    >>> print(markdown_table(["a", "b"], [["1", "2"]]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    table = [list(headings), ["---"] * len(headings), *map(list, lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in table)


def machine(device: str = "cpu", packages: Sequence[str] = ()) -> dict[str, Any]:
    """Say on what figures are taken, with the versions of further packages."""
    import torch

    facts = describe_machine(device, torch.get_num_threads())
    facts["versions"] |= versions(packages)
    return facts


def reference_model(folder: Path | str, device: str = "cpu") -> CrossEncoder:
    """Return what ours is compared with: the model in fp32, with sentence-transformers' defaults."""
    import torch
    from sentence_transformers import CrossEncoder

    model: CrossEncoder = CrossEncoder(
        str(folder), device=device, max_length=512, local_files_only=True, model_kwargs={"dtype": torch.float32}
    )
    assert_dtype(model, torch.float32)
    return model


def resident() -> int:
    """Return the bytes of this process that are in memory now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def seconds_in_turns(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each call in each round; whatever else the machine does falls on all of them.

    :raises RuntimeError: if a call fails.
    """
    times = measure({name: lambda _, call=call: call for name, call in calls.items()}, rounds)
    if times.failed:
        raise RuntimeError("; ".join(f"{name}: {why}" for name, why in times.failed.items()))
    return {name: times.seconds[name] for name in calls}


def overhead(core: Callable[[], object], adapter: Callable[[], object], rounds: int) -> dict[str, float]:
    """Time what is called through an adapter and what it calls, in turns."""
    core(), adapter()  # models are loaded
    times = seconds_in_turns({"core": core, "adapter": adapter}, rounds)
    of_core = statistics.median(times["core"])
    more = statistics.median(late - early for early, late in zip(times["core"], times["adapter"], strict=True))
    return {
        "core_ms": 1000 * of_core,
        "adapter_ms": 1000 * statistics.median(times["adapter"]),
        "overhead_ms": 1000 * more,
        "overhead_percent": 100 * more / of_core,
    }


async def lag(work: Callable[[], Awaitable[object]]) -> dict[str, float]:
    """Return how late a task that wants to run every few milliseconds is while work is done on its event loop."""
    late: list[float] = []
    started = time.perf_counter()
    running = asyncio.ensure_future(work())
    while not running.done():
        wanted = time.perf_counter() + TICK
        await asyncio.sleep(TICK)
        late.append(max(0.0, time.perf_counter() - wanted))
    await running
    p50, p99 = (1000 * float(value) for value in np.percentile(late, [50, 99]))
    return {
        "seconds": time.perf_counter() - started,
        "ticks": len(late),
        "p50_ms": p50,
        "p99_ms": p99,
        "max_ms": 1000 * max(late),
    }
