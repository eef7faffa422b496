"""Faults: writers killed at random points, and hostile input by the million; nothing may be lost, nothing may crash.

    python benchmarks/faults.py --output faults.json            # all of it
    python benchmarks/faults.py --quick                         # a minute

Kill points: a child process builds, adds to, removes from, compacts, saves over or tokenises an index and is killed by
SIGKILL at a random system call that changes files (a write is torn in half), or at a random time. A point is lost if
afterwards anything but the exact old or the exact new index loads, or the next writer cannot work.

Fuzzing: good inputs of every target are spoilt at random; anything but a documented error is a crash. Where atheris is
installed, targets that read bytes run under it too, led by coverage.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS / part) for part in ("reliability", "first_stage", "")]
os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from reliability_crashes import OPERATIONS, Nursery, compile_shim  # noqa: E402
from reliability_fuzz import targets  # noqa: E402
from reliability_spoil import Target  # noqa: E402

FACTORIES = ("Flat", "HNSW8", "IVF4,Flat", "IVF4,PQ4")
# Executions of the full form: most where one costs microseconds, fewer where one loads an index.
SHARES = {"index vectors.faiss": 2_000, "index passages.sqlite": 5_000, "index lexical.npz": 5_000, "manifest": 15_000,
          "manifest bytes": 15_000, "CURRENT": 15_000, "command line": 4_000, "model folder": 30_000,
          "biorerank.json": 40_000, "biorerank.json bytes": 40_000}  # fmt: skip
DEFAULT_SHARE = 60_000


def kill_points(folder: Path, model: Path, wanted: int, seed: int) -> dict[str, Any]:
    """Kill writers at random points; return what was left, by operation."""
    shim = compile_shim(folder)
    chance = random.Random(seed)
    left: dict[str, dict[str, int]] = {operation: {"old": 0, "new": 0, "lost": 0} for operation in OPERATIONS}
    losses: list[str] = []
    each = max(1, wanted // (len(OPERATIONS) * len(FACTORIES)))
    with Nursery(folder / "nursery", model=model, shim=shim) as nursery:
        for factory in FACTORIES:
            for operation in OPERATIONS:
                whole = nursery.ask(factory=factory, operation=operation)
                for number in range(each):
                    timed = number % 4 == 3
                    moment: dict[str, Any] = (
                        {"after": chance.random() * whole["seconds"]}
                        if timed
                        else {"at": chance.randint(1, whole["steps"])}
                    )
                    try:
                        state = nursery.ask(factory=factory, operation=operation, **moment)["state"]
                    except AssertionError as error:
                        state = "lost"
                        losses.append(f"{factory} {error}")
                    left[operation][state] += 1
                print(f"kill points: {factory} {operation} {left[operation]}", file=sys.stderr)
    return {
        "counted": "system calls" if shim is not None else "steps that Python sees",
        "points": sum(sum(states.values()) for states in left.values()),
        "losses": sum(states["lost"] for states in left.values()),
        "left": left,
        "examples": losses[:10],
    }


def fuzz(named: dict[str, Target], scale: float, seed: int) -> dict[str, Any]:
    """Run every target; return executions, uncaught crashes and executions a second."""
    results: dict[str, Any] = {}
    for name, target in named.items():
        wanted = max(20, int(SHARES.get(name, DEFAULT_SHARE) * scale))
        crashes: dict[str, str] = {}
        count, started = 0, time.perf_counter()
        for number in range(wanted):
            found = target.attempt(random.Random(f"{seed} {name} {number}"))
            if found is not None:
                count += 1
                crashes.setdefault(found.partition(" for ")[0], found)
        seconds = time.perf_counter() - started
        results[name] = {"executions": wanted, "crashes": count, "seconds": round(seconds, 1)}
        if crashes:
            results[name]["examples"] = list(crashes.values())[:5]
        print(f"fuzz: {name} {results[name]}", file=sys.stderr)
    return results


def guided(runs: int, seed: int) -> dict[str, Any] | None:
    """Run the readers under atheris, each in a process of its own; ``None`` where it is not installed."""
    try:
        import atheris  # noqa: F401
    except ImportError:
        return None
    results: dict[str, Any] = {}
    for name in ("jsonl", "tsv", "text", "bioasq", "pubmed", "auto", "queries", "answered", "qrels"):
        with tempfile.TemporaryDirectory() as folder:
            command = [
                sys.executable,
                str(Path(__file__).resolve()),
                "--atheris",
                name,
                "--output",
                f"{folder}/found.json",
            ]
            command += ["--seed", str(seed), "--runs", str(runs)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=TESTS.parent)
            path = Path(folder, "found.json")
            crashes = json.loads(path.read_text()) if path.exists() else ["no report: " + done.stderr[-500:]]
        executions = runs if done.returncode == 0 else 0
        results[name] = {"executions": executions, "crashes": len(crashes), "examples": crashes[:5]}
        print(f"atheris: {name} {results[name]}", file=sys.stderr)
    return results


def _under_atheris(name: str, output: Path, runs: int, seed: int) -> None:
    import atheris

    with atheris.instrument_imports(include=["biorerank_plugins"]):
        import biorerank_plugins.readers.answered
        import biorerank_plugins.readers.pubmed  # noqa: F401
    from reliability_fuzz import reader_targets

    target = reader_targets()[name]
    crashes: dict[str, str] = {}
    corpus = Path(tempfile.mkdtemp())
    for number, good in enumerate(target.seeds):
        (corpus / str(number)).write_bytes(good)
    output.write_text("[]")

    def one(data: bytes) -> None:
        found = target.judge(data)
        if found is not None and crashes.setdefault(found.partition(" for ")[0], found) == found:
            output.write_text(json.dumps(list(crashes.values())))

    atheris.Setup([sys.argv[0], f"-runs={runs}", f"-seed={seed}", "-max_len=4096", "-verbosity=0", str(corpus)], one)
    atheris.Fuzz()


def tiny_models(folder: Path) -> tuple[Path, Path]:
    """Make a bi-encoder and a cross-encoder as the tests do; return their folders."""
    import conftest

    class Factory:
        def mktemp(self, name: str) -> Path:
            return Path(tempfile.mkdtemp(prefix=name, dir=folder))

    encoder = conftest.tiny_encoder_dir.__wrapped__(Factory())
    return encoder, conftest.tiny_cross_encoder_dir.__wrapped__(Factory())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, help="write the results to this JSON file")
    parser.add_argument("--kill-points", type=int, default=480)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full number of fuzz executions")
    parser.add_argument("--runs", type=int, default=20_000, help="executions of each target under atheris; 0: none")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument(
        "--quick", action="store_true", help="48 kill points, a hundredth of the executions, no atheris"
    )
    parser.add_argument("--atheris", metavar="TARGET", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.atheris:
        _under_atheris(options.atheris, options.output, options.runs, options.seed)
        return
    if options.quick:
        options.kill_points, options.scale, options.runs = 48, 0.01, 0
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        encoder, cross_encoder = tiny_models(folder)
        started = time.perf_counter()
        results: dict[str, Any] = {"kill_points": kill_points(folder, cross_encoder, options.kill_points, options.seed)}
        (folder / "fuzz").mkdir()
        results["fuzz"] = fuzz(targets(folder / "fuzz", encoder), options.scale, options.seed)
        under = guided(options.runs, options.seed) if options.runs else None
    every = [*results["fuzz"].values(), *(under or {}).values()]
    results |= {
        "atheris": under,
        "executions": sum(part["executions"] for part in every),
        "crashes": sum(part["crashes"] for part in every),
        "seed": options.seed,
        "python": platform.python_version(),
        "seconds": round(time.perf_counter() - started),
    }
    text = json.dumps(results, indent=2).replace(scratch, "SCRATCH") + "\n"
    print(text)
    if options.output is not None:
        options.output.write_text(text)


if __name__ == "__main__":
    main()
