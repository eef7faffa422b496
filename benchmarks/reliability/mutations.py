"""Change the code on purpose, one place at a time, and see whether the tests notice.

    python -m benchmarks.reliability.mutations --out benchmarks/results/mutations.json

Needs cosmic-ray (``pip install cosmic-ray``), which makes the changes. So many are drawn from each module with a fixed
seed, and the tests of its room run on each of them in a copy of the checkout, in a child of a process that has the
libraries in memory already: seconds a mutant, not half a minute. What nothing evaluates (annotations, ``if
TYPE_CHECKING``) is not drawn. A survivor that changes nothing has its reason here; ``noticed`` is the share of killed
ones among the others.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import parser_of, read_result, write_result

RESULT = "mutations.json"
KEYS = ("seed", "mutants", "killed", "noticed", "modules")

SEED = 0
SECONDS = 300
LIBRARIES = (
    "torch", "transformers.models.bert.modeling_bert", "sentence_transformers", "faiss", "sklearn.linear_model",
    "hypothesis", "pytest", "llama_index.core", "haystack", "langchain_core.retrievers", "lxml.etree", "datasets",
)  # fmt: skip
"""What tests import that is none of ours; each child finds it in memory."""
OURS = ("biorerank_plugins", "haystack_integrations", "benchmarks")
MODULES = {
    "text/windows.py": "tests/text/test_windows.py tests/reranking",
    "models/calibration.py": "tests/models/test_calibration.py tests/reranking",
    "reranking/evidence.py": "tests/reranking",
    "reranking/order.py": "tests/reranking tests/articles tests/models/test_calibration.py",
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
    "strict=False": "the lengths are equal: it guards against a later mistake",
    "slots=False": "what a record takes in memory",
    ", /, ": "a name that must be given becomes one that need not",
    "@dataclass(frozen=False": "nothing writes to a record; its class forbids what nobody does",
    "len(own) >= 1": "the same: one window is the whole passage",
    "len(own) > 0": "the same: one window is the whole passage",
    "if end is not n": "the same: end is never above n",
    "best != 0": "the same: a BM25 score is at least 0",
    'first_stage >= "lexical"': "the same: no other name sorts behind it",
    "window or ( -1,": "the same: no sentence ends before the beginning",
    "dense[ 0]": "more products are computed than needed, of which the same are read",
    'first_stage <= "dense"': "the same: no other name sorts before it",
    "np.empty((0, 1)": "instead of vectors that nobody looks at",
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


def mutants_of(source: str) -> Iterator[str]:
    """Return what becomes of a module by one change, for each that cosmic-ray knows."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    evaluated = _evaluated(source)
    for name in sorted(operator_names()):
        if get_operator(name).arguments():
            continue
        operator = get_operator(name)()
        places = sum(len(list(operator.mutation_positions(node))) for node in ast_nodes(get_ast(source)))
        for number in range(places):
            changed = mutate_code(source, operator, number)
            if changed is not None and _evaluated(changed) != evaluated:
                yield changed


def _evaluated(source: str) -> str:
    """Return what there is of a module when it runs: neither annotations nor what only a type checker reads."""

    class Runs(ast.NodeTransformer):
        def visit_arg(self, node: ast.arg) -> ast.AST:
            node.annotation = None
            return node

        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
            node.returns = None
            return self.generic_visit(node)

        def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
            node.annotation = ast.Constant(None)
            return self.generic_visit(node)

        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if "TYPE_CHECKING" in ast.dump(node.test) else self.generic_visit(node)

    try:
        return ast.dump(Runs().visit(ast.parse(source)))
    except SyntaxError:
        return ""


def difference(before: str, after: str) -> tuple[int, list[str]]:
    """Return where two texts differ first, and the lines that do."""
    lines = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[:2] in ("- ", "+ ")]
    pairs = enumerate(zip(before.splitlines(), after.splitlines(), strict=False), start=1)
    return next((number for number, (old, new) in pairs if old != new), 0), lines


def tests_fail(tests: list[str]) -> bool:
    """Run tests in a child; one that hangs or dies fails."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
            del sys.modules[name]
        import pytest

        # Plugins of pytest that are in memory already cannot be rewritten, which it warns of.
        quiet = ("-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
        code: int = 9
        try:
            code = int(pytest.main([*quiet, *tests]))
        finally:
            os._exit(code)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) != 0
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def mutate(checkout: Path, module: str, tests: str, count: int, known: dict[str, Any] | None) -> dict[str, Any]:
    """Try mutants of one module in a copy of the checkout; of known ones only those that survived."""
    path = checkout / "biorerank_plugins" / module
    source = path.read_text()
    if tests_fail(tests.split()):
        raise SystemExit(f"{tests} fail before anything was changed.")
    every = list(dict.fromkeys(mutants_of(source)))
    drawn = random.Random(SEED).sample(every, min(count, len(every)))
    left = None if known is None else [one["change"] for one in known["survived"]]
    survived: list[dict[str, Any]] = []
    for changed in drawn:
        line, change = difference(source, changed)
        if left is not None and change not in left:
            continue
        path.write_text(changed)
        if not tests_fail(tests.split()):
            survived.append({"line": line, "change": change})
            logging.info("%s:%d survived %s", module, line, change)
    path.write_text(source)
    return {"of": len(every), "mutants": len(drawn), "killed": len(drawn) - len(survived), "survived": survived}


def explained(found: dict[str, Any]) -> dict[str, Any]:
    """Put the reasons beside the survivors."""
    for one in found.values():
        for survivor in one["survived"]:
            changed = " ".join(line for line in survivor["change"] if line.startswith("+"))
            survivor["reason"] = next((reason for piece, reason in REASONS.items() if piece in changed), None)
    return found


def write(path: Path | None, found: dict[str, Any]) -> None:
    modules = explained(found)
    killed = sum(one["killed"] for one in modules.values())
    left = sum(survivor["reason"] is None for one in modules.values() for survivor in one["survived"])
    mutants = sum(one["mutants"] for one in modules.values())
    result = {"seed": SEED, "mutants": mutants, "killed": killed, "noticed": round(killed / (killed + left), 3)}
    write_result(path, result | {"modules": modules}, KEYS)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--mutants", type=int, default=25, help="drawn from each module")
    parser.add_argument("--modules", nargs="*", default=list(MODULES), help="below biorerank_plugins")
    parser.add_argument("--again", action="store_true", help="only those that survived, after tests were written")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    root, out = Path(__file__).resolve().parents[2], args.out and args.out.resolve()
    found: dict[str, Any] = read_result(args.out).get("modules", {})
    with tempfile.TemporaryDirectory() as scratch:
        for name in COPIED:
            copy = shutil.copytree if (root / name).is_dir() else shutil.copy
            copy(root / name, Path(scratch, name))
        os.chdir(scratch)
        # The copy is what children import, without bytecode that could be older than a change.
        sys.path[:] = [scratch, *(path for path in sys.path if Path(path or root).resolve() != root)]
        os.environ |= {"PYTHONPATH": scratch, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        sys.dont_write_bytecode = True
        for name in LIBRARIES:
            importlib.import_module(name)
        for module in args.modules:
            known = found.get(module) if args.again else None
            found[module] = mutate(Path(scratch), module, MODULES[module], args.mutants, known)
            logging.info("%s: %d of %d", module, found[module]["killed"], found[module]["mutants"])
            write(out, found)


if __name__ == "__main__":
    main()
