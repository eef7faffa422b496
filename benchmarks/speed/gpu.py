"""Everything about speed and values on one GPU, in less than ten minutes; writes JSON and prints a table.

    benchmarks/speed/gpu.sh gpu.json
    python -m benchmarks.speed.gpu --smoke --out smoke.json

Weights are random (times do not depend on them) but for the quality part, which takes the embedded reranker if it is
there. What is measured is written after each part; a part that fails leaves its reason, and the others go on. Neither
faiss nor a framework is imported. ``--smoke`` walks through all parts on the CPU with tiny models: it shows that the
script works, and its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import torch

from benchmarks.common import machine, write_result
from benchmarks.speed import gpu_quality, gpu_speed
from benchmarks.speed.gpu_common import FULL, SMOKE, Bench

KEYS = ("machine", "parts")

PARTS: dict[str, Callable[[Bench], Any]] = {
    "ceilings": gpu_speed.ceilings,
    "throughput": gpu_speed.throughput,
    "requests": gpu_speed.requests,
    "texts": gpu_speed.texts,
    "quality": gpu_quality.quality,
    "neighbours": gpu_quality.neighbours,
    "memory": gpu_speed.memory,
    "profile": gpu_speed.profile,
    "compiled_requests": gpu_speed.compiled_requests,
    "compiled_throughput": gpu_speed.compiled_throughput,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure")
    parser.add_argument("--minutes", type=float, default=6.5, help="no part is begun after so long")
    parser.add_argument("--smoke", action="store_true", help="tiny models on the CPU")
    options = parser.parse_args()
    if not options.smoke and not torch.cuda.is_available():
        parser.error("There is no CUDA device here; --smoke walks through on the CPU.")
    device = torch.device("cpu" if options.smoke else "cuda:0")
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(device, SMOKE if options.smoke else FULL, Path(work))
        report = measure(bench, options.parts, 60 * options.minutes, options.out)
    print_tables(report)
    return 1 if any("failed" in part for part in report["parts"].values()) else 0


def measure(bench: Bench, parts: list[str], seconds: float, out: Path) -> dict[str, Any]:
    report: dict[str, Any] = {"machine": machine(str(bench.device)), "parts": {}}
    began = time.perf_counter()
    for name in parts:
        started = time.perf_counter()
        if started - began > seconds:
            report["parts"][name] = {"failed": "no time was left"}
        else:
            print(f"{started - began:6.1f} s  {name}", file=sys.stderr, flush=True)
            report["parts"][name] = attempt(PARTS[name], bench)
            report["parts"][name]["seconds"] = round(time.perf_counter() - started, 2)
        write_result(out, report, KEYS)
    return report


def attempt(part: Callable[[Bench], Any], bench: Bench) -> dict[str, Any]:
    try:
        return {"found": part(bench)}
    except Exception as error:  # whatever a driver or a library raises: the other parts go on
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {error}"}
    finally:
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()


def print_tables(report: dict[str, Any]) -> None:
    for name, part in report["parts"].items():
        print(f"\n{name} ({part.get('seconds', 0)} s)")
        found = part.get("found", part)
        if isinstance(found, list) and found:
            columns = list(dict.fromkeys(key for row in found for key in row))
            rows = [columns, *([str(row.get(column, "")) for column in columns] for row in found)]
            widths = [max(len(row[place]) for row in rows) for place in range(len(columns))]
            for row in rows:
                print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        else:
            print(json.dumps(found, indent=1))


if __name__ == "__main__":
    sys.exit(main())
