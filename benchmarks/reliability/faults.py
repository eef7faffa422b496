"""Faults: writers killed at random points, and hostile input by the million; nothing may be lost, nothing may crash.

    python -m benchmarks.reliability.faults --out benchmarks/results/faults.json
    python -m benchmarks.reliability.faults --quick

``--quick`` takes a minute; ``--parts atheris`` does one part, and keeps the others as they are in the file.

Kill points: a child process builds, adds to, removes from, compacts, saves over or tokenises an index and is killed by
SIGKILL at a random system call that changes files (a write is torn in half), or at a random time. A point is lost if
afterwards anything but the exact old or the exact new index loads, or the next writer cannot work.

Fuzzing: good inputs of every target are spoilt at random; anything but a documented error is a crash. Where atheris is
installed, targets that read bytes run under it too, led by coverage.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[2] / "tests"
sys.path.insert(0, str(TESTS))
os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from support.crashes import OPERATIONS, SHARD_OPERATIONS, Nursery, compile_shim  # noqa: E402
from support.fuzz import targets  # noqa: E402
from support.spoil import Target  # noqa: E402

from benchmarks.common import read_result, write_result  # noqa: E402

RESULT = "faults.json"
KEYS = ("seeds", "python", "part_seconds", "kill_points", "executions", "crashes", "fuzz", "atheris")
FACTORIES = ("Flat", "HNSW8", "IVF4,Flat", "IVF4,PQ4")
# Executions of the full form: most where one costs microseconds, fewer where one loads an index.
SHARES = {
    "index vectors.faiss": 1_000, "index passages.sqlite": 3_000, "index lexical.npz": 3_000, "manifest": 5_000,
    "manifest bytes": 8_000, "CURRENT": 8_000, "shards.json": 3_000, "shards.json bytes": 8_000, "model folder": 6_000,
    "biorerank.json": 8_000, "biorerank.json bytes": 8_000, "from_dict BioRanker": 8_000,
    "from_dict BioRetriever": 8_000,
    "from_dict BioTextEmbedder": 8_000, "from_dict BioDocumentEmbedder": 8_000, "request to the server": 15_000,
    "command line": 300, "pdf": 15_000, "application of the server": 15_000, "metadata of haystack": 2_000,
    "metadata of langchain": 2_000, "metadata of llama_index": 2_000,
}  # fmt: skip
DEFAULT_SHARE = 40_000
# FAISS matters to an index that is changed; shards are built with the plainest type.
WRITERS = [(factory, operation) for factory in FACTORIES for operation in OPERATIONS] + [
    ("Flat", operation) for operation in SHARD_OPERATIONS
]
PARTS = ("kill_points", "fuzz", "atheris")
Note = Callable[[str, Any], None]


def kill_points(folder: Path, wanted: int, seed: int, note: Note) -> None:
    """Kill writers at random points; note what was left, by operation."""
    shim = compile_shim(folder)
    chance = random.Random(seed)
    left: dict[str, dict[str, int]] = {operation: {"old": 0, "new": 0, "lost": 0} for _, operation in WRITERS}
    losses: list[str] = []
    each = max(1, wanted // len(WRITERS))
    with Nursery(folder / "nursery", shim=shim) as nursery:
        for factory, operation in WRITERS:
            whole = nursery.ask(factory=factory, operation=operation)
            for number in range(each):
                steps = whole["steps"]
                moment: dict[str, Any] = {"at": chance.randint(1, steps)}
                if number % 4 == 2:  # around the switch, which comes at the end
                    moment = {"at": chance.randint(max(1, steps - 12), steps)}
                elif number % 4 == 3:
                    moment = {"after": chance.random() * whole["seconds"]}
                try:
                    state = nursery.ask(factory=factory, operation=operation, **moment)["state"]
                except AssertionError as error:
                    state = "lost"
                    losses.append(f"{factory} {error}")
                left[operation][state] += 1
            print(f"kill points: {factory} {operation} {left[operation]}", file=sys.stderr)
            summary = {"points": sum(sum(states.values()) for states in left.values()), "losses": len(losses)}
            counted = "system calls" if shim is not None else "steps that Python sees"
            note("kill_points", {"counted": counted, **summary, "left": left, "examples": losses[:10]})


def fuzz(named: dict[str, Target], scale: float, seed: int, note: Note) -> None:
    """Run every target; note executions, uncaught crashes and seconds."""
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
        note("fuzz", results)


def guided(runs: int, seed: int, note: Note) -> None:
    """Run the readers under atheris, each in a process of its own, where it is installed."""
    if importlib.util.find_spec("atheris") is None:
        return
    results: dict[str, Any] = {}
    for name in ("jsonl", "tsv", "text", "bioasq", "pubmed", "pdf", "auto", "queries", "answered", "qrels"):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "benchmarks.reliability.faults", "--atheris", name]
            command += ["--out", f"{folder}/found.json", "--seed", str(seed), "--runs", str(runs)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=TESTS.parent)
            path = Path(folder, "found.json")
            crashes = json.loads(path.read_text()) if path.exists() else ["no report: " + done.stderr[-500:]]
        executions = runs if done.returncode == 0 else 0
        results[name] = {"executions": executions, "crashes": len(crashes), "examples": crashes[:5]}
        print(f"atheris: {name} {results[name]}", file=sys.stderr)
        note("atheris", results)


def _under_atheris(name: str, output: Path, runs: int, seed: int) -> None:
    import atheris

    with atheris.instrument_imports(include=["biorerank_plugins"]):
        import biorerank_plugins.readers.answered
        import biorerank_plugins.readers.pubmed  # noqa: F401
    from support.fuzz import reader_targets

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


def tiny_encoder(folder: Path) -> Path:
    """Make a bi-encoder as the tests do; return its folder."""
    import conftest

    class Factory:
        def mktemp(self, name: str) -> Path:
            return Path(tempfile.mkdtemp(prefix=name, dir=folder))

    encoder: Path = conftest.tiny_encoder_dir.__wrapped__(Factory())
    return encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, help="JSON to write")
    parser.add_argument("--kill-points", type=int, default=480)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full number of fuzz executions")
    parser.add_argument("--runs", type=int, default=60_000, help="executions of each target under atheris; 0: none")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument(
        "--quick", action="store_true", help="48 kill points, a hundredth of the executions, no atheris"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to do of it")
    parser.add_argument("--atheris", metavar="TARGET", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.atheris:
        _under_atheris(options.atheris, options.out, options.runs, options.seed)
        return
    if options.quick:
        options.kill_points, options.scale, options.runs = 48, 0.01, 0
    logging.disable(logging.WARNING)
    started = time.perf_counter()
    results: dict[str, Any] = {"seeds": {}, "python": platform.python_version(), "part_seconds": {}}
    if options.out is not None and options.out.exists() and set(options.parts) < set(PARTS):
        results = read_result(options.out)
    with tempfile.TemporaryDirectory() as scratch:

        def note(part: str, found: Any) -> None:
            """Keep what is known so far, so that a stop does not lose it."""
            results[part] = found
            results["seeds"][part] = options.seed
            every = [one for kind in ("fuzz", "atheris") for one in results.get(kind, {}).values()]
            results["executions"] = sum(one["executions"] for one in every)
            results["crashes"] = sum(one["crashes"] for one in every)
            results["part_seconds"][part] = round(time.perf_counter() - started)
            write_result(options.out, json.loads(json.dumps(results).replace(scratch, "SCRATCH")), KEYS)

        folder = Path(scratch)
        if "kill_points" in options.parts:
            kill_points(folder, options.kill_points, options.seed, note)
        if "fuzz" in options.parts:
            started = time.perf_counter()
            (folder / "fuzz").mkdir()
            fuzz(targets(folder / "fuzz", tiny_encoder(folder)), options.scale, options.seed, note)
        if "atheris" in options.parts and options.runs:
            started = time.perf_counter()
            guided(options.runs, options.seed, note)
    print(json.dumps({name: results.get(name) for name in ("kill_points", "executions", "crashes")}, indent=2))


if __name__ == "__main__":
    main()
