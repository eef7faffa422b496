"""Measure how much memory scoring takes over the loaded model; exits with 1 above the goal.

    python -m benchmarks.speed.memory --out benchmarks/results/memory.json

A process of its own makes the texts, loads the model, scores some pairs to warm up, and notes its resident memory; then
it scores all pairs, and notes the highest resident memory until the scores are there. The texts, which are the
caller's, are in memory before; what is asked is whether the rest is bounded by the token budget.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.common import parser_of, resident, write_result

RESULT = "memory.json"
KEYS_OF_EACH = (
    "backend", "dtype", "pairs", "different_texts", "with_model_bytes", "peak_bytes", "over_model_bytes",
    "goal_bytes", "passed", "seconds", "pairs_per_second", "preloaded",
)  # fmt: skip

GOAL = 300e6  # bytes


def reset_peak() -> bool:
    """Let the kernel forget the highest memory so far; whether it did."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def peak() -> int:
    """Return the highest number of bytes in memory since it was reset."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("This kernel does not say how much memory a process has used.")


class Sampler(threading.Thread):
    """Looks at the memory every few milliseconds, where the kernel does not keep its peak for us."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.highest = resident()
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.005):
            self.highest = max(self.highest, resident())


def make_pairs(count: int, questions: int) -> list[tuple[str, str]]:
    """Make pairs with different texts, of the lengths of BioASQ's."""
    from biorerank_plugins import models
    from biorerank_plugins.speed.systems import tokenizer_of
    from biorerank_plugins.speed.texts import Mix, make_requests, read_source

    tokenizer = tokenizer_of(models.path(models.DEFAULT_RERANKER))
    requests = make_requests(
        read_source(None),
        Mix.parse("bioasq"),
        tokenizer,
        count=questions,
        candidates=-(-count // questions),
        max_length=512,
    )
    pairs = [(request.query, text) for request in requests for text in request.texts]
    return [(query, f"{number}. {text}") for number, (query, text) in enumerate(pairs[:count])]


def measure(args: argparse.Namespace) -> dict[str, Any]:
    from biorerank_plugins import BioReranker

    pairs = make_pairs(args.pairs, args.questions)
    with BioReranker(
        args.model, backend=args.backend, dtype=args.dtype, max_batch_tokens=args.max_batch_tokens
    ) as ours:
        ours.predict(pairs[:200])
        before = resident()
        exact = reset_peak()
        sampler = Sampler()
        sampler.start()
        started = time.perf_counter()
        scores = ours.predict(pairs)
        seconds = time.perf_counter() - started
        sampler.ended.set()
        sampler.join()
        highest = max(peak(), sampler.highest) if exact else sampler.highest
    assert len(scores) == len(pairs)
    return {
        "backend": args.backend,
        "dtype": args.dtype,
        "pairs": len(pairs),
        "different_texts": len({text for _, text in pairs}),
        "with_model_bytes": before,
        "peak_bytes": highest,
        "over_model_bytes": highest - before,
        "goal_bytes": GOAL,
        "passed": highest - before <= GOAL,
        "seconds": seconds,
        "pairs_per_second": len(pairs) / seconds,
        "preloaded": [Path(name).name for name in os.environ.get("LD_PRELOAD", "").replace(":", " ").split()],
    }


def in_process_of_its_own(args: argparse.Namespace, backend: str, dtype: str) -> dict[str, Any]:
    options = [
        "--child", "--pairs", args.pairs, "--questions", args.questions, "--system", f"{backend}-{dtype}",
        *(("--model", args.model) if args.model else ()),
        *(("--max-batch-tokens", args.max_batch_tokens) if args.max_batch_tokens else ()),
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed.memory", *map(str, options)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        return {"backend": backend, "dtype": dtype, "not_possible": lines[-1] if lines else "it ended"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--model", help="folder or embedded name; the embedded reranker if not given")
    parser.add_argument(
        "--system", action="append", metavar="BACKEND-DTYPE", help="default: auto-auto; may be given repeatedly"
    )
    parser.add_argument("--max-batch-tokens", type=int)
    parser.add_argument("--out", type=Path, help="JSON to write")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    systems = [system.rpartition("-")[::2] for system in args.system or ["auto-auto"]]
    if args.child:
        args.backend, args.dtype = systems[0]
        print(json.dumps(measure(args)))
        return 0
    results = [in_process_of_its_own(args, backend, dtype) for backend, dtype in systems]
    for found in results:
        print(json.dumps(found))
    write_result(args.out, results, [*KEYS_OF_EACH, "not_possible"], each=True)
    return 0 if all(found.get("passed") for found in results) else 1


if __name__ == "__main__":
    sys.exit(main())
