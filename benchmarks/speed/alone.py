"""How many times as fast as ``CrossEncoder.predict`` in fp32: each system in a process in which nothing else computes.

    python -m benchmarks.speed.alone --data "$BIORERANK_DATA" --out benchmarks/results/alone.json

``speed.py`` compares all systems in one process, as they are where a host computes with torch beside the reranker. Here
each has a process of its own, as in a program that only reranks; rounds are in turns, and the others wait meanwhile.
A question of BioASQ dev and so many passages of its collection, others in each round.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import machine, parser_of, read_rows, reference_model, spread, write_result
from biorerank_plugins import BioReranker, models
from biorerank_plugins.speed.rounds import ratios

RESULT = "alone.json"
KEYS = ("machine", "rounds", "candidates", "seconds", "times as fast")

BASELINE = "predict"
SYSTEMS = (BASELINE, "auto", "float32", "int8")
"""``CrossEncoder.predict``, and precisions of ours."""
WARM_UP = 2  # rounds that do not count

Pairs = Sequence[tuple[str, str]]


def scorer(system: str) -> Callable[[Pairs], object]:
    """Return what scores pairs, in fp32 and with its defaults, or ours in a precision."""
    if system != BASELINE:
        return BioReranker(device="cpu", dtype=system).predict
    return partial(reference_model(models.path(models.DEFAULT_RERANKER)).predict, show_progress_bar=False)


def drawn(data: Path, rounds: int, candidates: int) -> list[Pairs]:
    """Return the pairs of each round."""
    questions = [row["question"] for row in read_rows(data / "bioasq" / "dev.jsonl.gz")]
    texts = [row["text"] for row in read_rows(data / "bioasq" / "corpus.jsonl.gz")]
    draw = random.Random(0)
    asked = draw.sample(questions, rounds)
    return [[(question, text) for text in draw.sample(texts, candidates)] for question in asked]


def serve(system: str, requests: Sequence[Pairs]) -> None:
    """Score one request for each line on stdin, and answer with its seconds."""
    score = scorer(system)
    for line in sys.stdin:
        started = time.perf_counter()
        score(requests[int(line)])
        print(time.perf_counter() - started, flush=True)


def ask(process: subprocess.Popen[str], number: int) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    print(number, file=process.stdin, flush=True)
    return float(process.stdout.readline())


def seconds_of_all(systems: Sequence[str], rounds: int, arguments: Sequence[str]) -> dict[str, list[float]]:
    with ExitStack() as stack:
        processes = {}
        for system in systems:
            command = [sys.executable, "-m", "benchmarks.speed.alone", *arguments, "--child", system]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            processes[system] = stack.enter_context(process)  # which closes its stdin, and waits for it
        times = [{system: ask(one, number) for system, one in processes.items()} for number in range(WARM_UP + rounds)]
    return {system: [one[system] for one in times[WARM_UP:]] for system in systems}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with bioasq/")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument(
        "--system", action="append", choices=SYSTEMS[1:], help="this one beside predict; repeatable; default: all"
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", choices=SYSTEMS, help="score what is asked for on stdin")
    args = parser.parse_args()
    if args.child is not None:
        serve(args.child, drawn(args.data, WARM_UP + args.rounds, args.candidates))
        return
    given = ["--data", str(args.data), "--rounds", str(args.rounds), "--candidates", str(args.candidates)]
    seconds = seconds_of_all((BASELINE, *(args.system or SYSTEMS[1:])), args.rounds, given)
    found = {system: spread(ratios(seconds[BASELINE], own)) for system, own in seconds.items() if system != BASELINE}
    result: dict[str, Any] = {
        "machine": machine(),
        "rounds": args.rounds,
        "candidates": args.candidates,
        "seconds": {system: round(statistics.median(own), 4) for system, own in seconds.items()},
        "times as fast": found,
    }
    print(result["seconds"], found, file=sys.stderr)
    write_result(args.out, result, KEYS)


if __name__ == "__main__":
    main()
