"""Hold every way to compute to fp32 ``CrossEncoder.predict`` on judged questions; exits with 1 when a gate is broken.

    biorerank index "$BIORERANK_DATA/bioasq/corpus.jsonl.gz" --out bioasq-index
    python -m benchmarks.quality.quality_gate --data "$BIORERANK_DATA" --index bioasq-index \\
        --out benchmarks/results/quality_gate.json

The first stage's 100 best passages of each BioASQ dev question are scored in a shuffled order. The gate is the change
of nDCG@10 against the reference, both in the order of the logits and in the default order, with the first stage's
scores. Beside it: how far logits are from the reference's, for how many questions the ten best change, and how much a
logit moves when other pairs are scored beside it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.common import machine, markdown_table, parser_of, reference_model, write_result
from benchmarks.quality.gate import Asked, compare_path, neighbour_moves, path_logits, reference_logits
from biorerank_plugins import BioReranker, PassageIndex, TwoStageSearch
from biorerank_plugins.evaluation import run_from_order, write_run
from biorerank_plugins.models.stored import stored_template
from biorerank_plugins.readers import read_qrels, read_queries
from biorerank_plugins.runtime.devices import resolve_device
from biorerank_plugins.speed.rounds import reason_of
from biorerank_plugins.speed.systems import SYSTEMS, folder_of
from biorerank_plugins.text.templates import DEFAULT_TEMPLATE

RESULT = "quality_gate.json"
KEYS = (
    "machine", "model", "first_stage", "candidates", "seed", "fusion", "questions", "reference", "paths",
    "not_possible",
)  # fmt: skip

TOLERANCE = 0.002
INT8_TOLERANCE = 0.005
PATHS = tuple(name for name in SYSTEMS if name.startswith("ours-"))


def read_asked(
    search: TwoStageSearch, folder: Path, args: argparse.Namespace, qrels: dict[str, dict[str, int]]
) -> list[Asked]:
    queries = [query for query in read_queries(folder / "dev.jsonl.gz") if query.id in qrels][: args.questions]
    found = search.index.search_many([query.text for query in queries], args.candidates, first_stage=args.first_stage)
    return [Asked(query.id, query.text, own) for query, own in zip(queries, found, strict=True)]


def measure_paths(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    folder = folder_of(args.model, work)
    device = str(resolve_device(args.device))
    index = PassageIndex.load(args.index, verify="fast")
    search = TwoStageSearch(index, BioReranker(folder, device=device), first_stage=args.first_stage)
    data = args.data / "bioasq" if (args.data / "bioasq").is_dir() else args.data
    qrels = read_qrels(data / "qrels.dev.tsv")
    asked = read_asked(search, data, args, qrels)
    reference = reference_logits(
        reference_model(folder, device), asked, template=stored_template(folder) or DEFAULT_TEMPLATE
    )
    fusion = search.fusion_weight()
    result: dict[str, Any] = {
        "machine": machine(device),
        "model": folder.name,
        "first_stage": args.first_stage,
        "candidates": args.candidates,
        "seed": args.seed,
        "fusion": fusion,
        "questions": len(asked),
        "reference": compare_path(asked, qrels, reference, reference, fusion=fusion).to_dict(),
        "paths": {},
        "not_possible": {},
    }
    for name in args.path or PATHS:
        try:
            reranker = BioReranker(folder, device=device, windows=False, **SYSTEMS[name][1])
            reranker.warm_up()
        except Exception as error:  # whatever a backend raises: it is not possible here
            result["not_possible"][name] = reason_of(error)
            continue
        with reranker:
            started = time.perf_counter()
            logits = path_logits(reranker, asked, seed=args.seed)
            seconds = time.perf_counter() - started
            moves = neighbour_moves(reranker, asked[: args.neighbours])
        found = compare_path(asked, qrels, reference, logits, fusion=fusion)
        tolerance = INT8_TOLERANCE if name.endswith("int8") else TOLERANCE
        result["paths"][name] = {
            **found.to_dict(),
            "tolerance": tolerance,
            "passed": found.within(tolerance),
            "seconds": seconds,
            "neighbours": asdict(moves),
        }
        print(f"{name}: {result['paths'][name]}", file=sys.stderr, flush=True)
        if args.runs is not None:
            order = {query: sorted(own, key=lambda id_: -own[id_]) for query, own in logits.items()}
            write_run(run_from_order(order), args.runs / f"{name}.trec", tag=name)
    return result


def table(result: dict[str, Any]) -> str:
    headings = ["path", "nDCG@10", "Δ by logit", "Δ default order", "gate", "largest Δ logit", "mean Δ logit"]
    headings += ["top 10 changed", "moved by neighbours"]
    lines = [
        [
            name,
            f"{path['ndcg']:.4f}",
            f"{path['delta']:+.4f}",
            f"{path['fused_delta']:+.4f}",
            f"{'held' if path['passed'] else '**broken**'} ({path['tolerance']})",
            f"{path['largest']:.2g}",
            f"{path['mean']:.2g}",
            f"{path['changed']} of {result['questions']}",
            f"{max(path['neighbours']['together'][0], path['neighbours']['alone'][0]):.2g}",
        ]
        for name, path in result["paths"].items()
    ]
    return markdown_table(headings, lines)


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with bioasq/")
    parser.add_argument("--index", type=Path, required=True, help="folder that biorerank index wrote of its corpus")
    parser.add_argument("--first-stage", default="hybrid", choices=["hybrid", "dense", "lexical"])
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--questions", type=int, help="the first so many; all if not given")
    parser.add_argument("--neighbours", type=int, default=20, help="questions whose pairs are scored in other batches")
    parser.add_argument("--seed", type=int, default=0, help="of the order in which candidates are handed over")
    parser.add_argument("--model", help="folder or embedded name; the embedded reranker if not given")
    parser.add_argument("--device")
    parser.add_argument("--path", action="append", choices=PATHS, help="may be given repeatedly; all if not given")
    parser.add_argument("--runs", type=Path, help="folder for the lists, as TREC files")
    parser.add_argument("--out", type=Path, help="JSON to write")
    args = parser.parse_args()
    if args.runs is not None:
        args.runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        result = measure_paths(args, Path(work))
    write_result(args.out, result, KEYS)
    print(table(result))
    for name, reason in result["not_possible"].items():
        print(f"Not possible here: {name}: {reason}")
    broken = [name for name, path in result["paths"].items() if not path["passed"]]
    if broken:
        print(f"Broken: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken or not result["paths"] else 0


if __name__ == "__main__":
    sys.exit(main())
