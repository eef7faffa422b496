"""How much faster the packed backend scores on one GPU than sentence-transformers, and how far its logits are off.

    benchmarks/speed/gpu.sh gpu.json
    python -m benchmarks.speed.gpu --smoke --out smoke.json

It runs the code of ``biorerank bench``: fp32 ``CrossEncoder.predict``, sentence-transformers in its best setting, and
ours, padded and packed. The embedded reranker is measured with its weights, larger shapes with random ones: times do
not depend on them. What is measured is written after each part. ``--smoke`` walks through on the CPU: it shows that the
script works, and its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import torch

from benchmarks.common import markdown_table
from benchmarks.speed.parts import measure_part
from biorerank_plugins.speed.run import Options

ON_GPU: dict[str, Any] = {
    "systems": ["st-best", "ours-torch-float16", "ours-packed-float16", "ours-packed-bfloat16"],
    "mixes": ["150", "512"],
    "candidates": [100, 1000],
    "rounds": 5,
    "device": "cuda",
}
ON_CPU: dict[str, Any] = {
    "systems": ["ours-packed-float32"],
    "mixes": ["150"],
    "candidates": [4],
    "rounds": 1,
    "device": "cpu",
}
PARTS: dict[str, str | None] = {"embedded": None, "bert-base": "bert-base"}
"""The shape with random weights that a part measures; ``None`` for the embedded reranker."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure")
    parser.add_argument("--smoke", action="store_true", help="a few pairs on the CPU")
    options = parser.parse_args()
    if not options.smoke and not torch.cuda.is_available():
        parser.error("There is no CUDA device here; --smoke walks through on the CPU.")
    report: dict[str, Any] = {}
    for name in options.parts:
        report[name] = measure(PARTS[name], smoke=options.smoke)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(f"\n{name}\n\n{table(report[name])}", flush=True)
    return 1 if any("failed" in part or part["not_possible"] for part in report.values()) else 0


def measure(shape: str | None, *, smoke: bool) -> dict[str, Any]:
    options = Options(**(ON_CPU if smoke else ON_GPU))
    note = lambda said: print(said, file=sys.stderr)  # noqa: E731
    try:
        return measure_part(options, shape=shape, with_roofline=not smoke, note=note)
    except Exception as error:  # whatever a driver or a library raises: the other parts go on
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {error}"}


def table(part: dict[str, Any]) -> str:
    if "failed" in part:
        return f"failed: {part['failed']}"
    rows = [
        [
            f"{comparison['mix']} tokens, {comparison['candidates']}",
            system,
            f"{found['pairs_per_second']:,.0f}",
            f"{found['ratio']:.2f}x",
        ]
        for comparison in part["comparisons"]
        for system, found in comparison["systems"].items()
    ]
    missing = [f"Not possible here: {name}: {reason}" for name, reason in part["not_possible"].items()]
    return "\n".join([markdown_table(["pairs", "system", "pairs a second", "ratio"], rows), *missing])


if __name__ == "__main__":
    sys.exit(main())
