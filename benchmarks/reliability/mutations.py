"""Change the code on purpose, one place at a time, and see whether the tests notice.

    python -m benchmarks.reliability.mutations --out benchmarks/results/mutations.json

Needs cosmic-ray (``pip install cosmic-ray``), and takes half a minute a mutant: so many are drawn from each module with
a fixed seed, and the tests of its room run on each of them, in a copy of the checkout. Alternatives in annotations
(``int | None``), which nothing evaluates, are not changed.
"""

from __future__ import annotations

import json
import logging
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import parser_of, read_result, write_result

RESULT = "mutations.json"
KEYS = ("seed", "mutants", "killed", "modules")

SEED = 0
MODULES = {
    "text/windows.py": "tests/text/test_windows.py tests/reranking",
    "models/calibration.py": "tests/models/test_calibration.py tests/reranking",
    "reranking/evidence.py": "tests/reranking",
    "reranking/order.py": "tests/reranking tests/articles",
    "reranking/first_stage_prior.py": "tests/reranking",
    "reranking/passage_windows.py": "tests/reranking tests/text/test_windows.py",
    "runtime/tokens.py": "tests/runtime/test_tokens.py tests/text/test_windows.py",
    "first_stage/fusion.py": "tests/first_stage/test_rank_fusion.py tests/first_stage/test_hybrid.py tests/reranking",
    "first_stage/hybrid.py": "tests/first_stage/test_hybrid.py",
    "first_stage/filters.py": "tests/first_stage/test_filters.py",
    "llama_index/nodes.py": "tests/llama_index",
    "langchain/compressor.py": "tests/langchain",
    "haystack/ranking.py": "tests/haystack",
}  # fmt: skip
"""Modules of the package, and the tests that should notice."""
REASONS = {
    "not TYPE_CHECKING": "only the type checker reads it, and the imports are there",
    "strict=False": "the lengths are equal: it guards against a later mistake",
    "probability > threshold": "differs only where a probability equals the threshold to the last bit",
    'options.retracted != "keep"': "tests/articles/test_metadata.py notices it",
    "_NOTHING[": "the type of an empty array that nobody reads there",
    "slots=False": "what a record takes in memory",
    "tokenizer: Any, /, max_length": "a name that may be given becomes one that need not",
    "/, top_k: object": "a name that may be given becomes one that need not",
    "frozen=False": "nothing writes to a record; its class forbids what nobody does",
    "len(own) >= 1": "the same: one window is the whole passage",
    "len(own) > 0": "the same: one window is the whole passage",
    "query_max_length & self": "fewer passages skip the exact count: slower, with the same windows",
    "if end is not n": "the same: end is never above n",
    "if slope < 0": "a slope of 0 is refused by the calibration itself",
    "if value > 0": "the same: both branches give one half at 0",
    "sorted(unknown)[ -1]": "which of several unknown names a message shows",
    "coef_[ -1][0]": "the same: there is one row",
}
"""Why a change that no test noticed is none, or is noticed elsewhere, by a piece of the changed line."""
COPIED = (
    "biorerank_plugins",
    "haystack_integrations",
    "tests",
    "benchmarks",
    "examples",
    "pyproject.toml",
    "README.md",
)


def draw(database: Path, count: int) -> None:
    """Leave so many mutants to be tried."""
    from cosmic_ray.work_db import use_db
    from cosmic_ray.work_item import WorkerOutcome, WorkResult

    with use_db(str(database)) as work:
        items = [item for item in work.work_items if "BinaryOperator_BitOr" not in item.mutations[0].operator_name]
        chosen = {item.job_id for item in random.Random(SEED).sample(items, min(count, len(items)))}
        for item in list(work.pending_work_items):
            if item.job_id not in chosen:
                work.set_result(item.job_id, WorkResult(worker_outcome=WorkerOutcome.SKIPPED))


def outcome(database: Path) -> dict[str, Any]:
    """Return how many mutants were noticed, and those that were not."""
    from cosmic_ray.work_db import use_db
    from cosmic_ray.work_item import TestOutcome, WorkerOutcome

    with use_db(str(database)) as work:
        tried = [
            (item, result)
            for item, result in work.completed_work_items
            if result.worker_outcome == WorkerOutcome.NORMAL
        ]
    survived = [(item, result) for item, result in tried if result.test_outcome == TestOutcome.SURVIVED]
    return {
        "mutants": len(tried),
        "killed": len(tried) - len(survived),
        "survived": [
            {
                "line": item.mutations[0].start_pos[0],
                "change": [
                    line
                    for line in (result.diff or "").splitlines()
                    if line[:1] in "+-" and line[:3] not in ("+++", "---")
                ],
            }
            for item, result in survived
        ],
    }


def explained(found: dict[str, Any]) -> dict[str, Any]:
    """Put the reasons beside the survivors."""
    for one in found.values():
        for survivor in one["survived"]:
            changed = " ".join(line for line in survivor["change"] if line.startswith("+"))
            survivor["reason"] = next((reason for piece, reason in REASONS.items() if piece in changed), None)
    return found


def write(path: Path | None, found: dict[str, Any]) -> None:
    result = {
        "seed": SEED,
        "mutants": sum(one["mutants"] for one in found.values()),
        "killed": sum(one["killed"] for one in found.values()),
        "modules": explained(found),
    }
    write_result(path, result, KEYS)


def mutate(checkout: Path, module: str, tests: str, count: int) -> dict[str, Any]:
    """Try mutants of one module in a copy of the checkout."""
    config, database = checkout / "mutations.toml", checkout / "mutations.sqlite"
    database.unlink(missing_ok=True)
    command = f"{sys.executable} -m pytest -x -q -p no:cacheprovider {tests}"
    config.write_text(
        "[cosmic-ray]\n"
        f"module-path = {json.dumps(f'biorerank_plugins/{module}')}\n"
        f"timeout = 300.0\nexcluded-modules = []\ntest-command = {json.dumps(command)}\n"
        '[cosmic-ray.distributor]\nname = "local"\n'
    )
    run = [str(Path(sys.executable).with_name("cosmic-ray"))]
    subprocess.run([*run, "init", config.name, database.name], cwd=checkout, check=True)
    draw(database, count)
    subprocess.run([*run, "exec", config.name, database.name], cwd=checkout, check=True)
    return outcome(database)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--mutants", type=int, default=10, help="drawn from each module")
    parser.add_argument("--modules", nargs="*", default=list(MODULES), help="below biorerank_plugins")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    root = Path(__file__).resolve().parents[2]
    found: dict[str, Any] = read_result(args.out).get("modules", {})
    with tempfile.TemporaryDirectory() as scratch:
        for name in COPIED:
            copy = shutil.copytree if (root / name).is_dir() else shutil.copy
            copy(root / name, Path(scratch, name))
        for module in args.modules:
            found[module] = mutate(Path(scratch), module, MODULES[module], args.mutants)
            logging.info("%s: %d of %d", module, found[module]["killed"], found[module]["mutants"])
            write(args.out, found)
    write(args.out, found)


if __name__ == "__main__":
    main()
