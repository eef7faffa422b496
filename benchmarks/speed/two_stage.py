"""Time one question through both stages: ours, and the same two stages built from sentence-transformers and FAISS.

    biorerank index "$BIORERANK_DATA/bioasq/corpus.jsonl.gz" --out bioasq-index
    python -m benchmarks.speed.two_stage --data "$BIORERANK_DATA" --index bioasq-index \\
        --out benchmarks/results/two_stage.json

The other two stages: ``SentenceTransformer.encode`` of the same bi-encoder, ``faiss.IndexFlatIP`` over the same
vectors, fp32 ``CrossEncoder.predict`` of the same reranker over the best 100, sorted. Every question goes through all
systems before the next one does, forwards and backwards in turn.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from benchmarks.common import machine, markdown_table, parser_of, reference_model, write_result
from biorerank_plugins import BiEncoder, BioReranker, PassageIndex, TwoStageSearch, models
from biorerank_plugins.first_stage.verification import open_version
from biorerank_plugins.readers import Query, read_queries
from biorerank_plugins.speed.rerankers import assert_dtype
from biorerank_plugins.speed.rounds import measure, ratios, reason_of

RESULT = "two_stage.json"
KEYS = ("machine", "candidates", "baseline", "questions", "systems", "failed", "not_possible")

BASELINE = "sentence-transformers + FAISS"
OURS = (("torch", "float32"), ("torch", "bfloat16"), ("packed", "float32"), ("packed", "bfloat16"), ("packed", "int8"))
FIRST_STAGES = ("dense", "hybrid")
Search = Callable[[str], list[str]]


class TheirStages:
    """What a user would build without this package."""

    def __init__(self, index: PassageIndex, vectors: Any, candidates: int) -> None:
        fp32: Any = {"dtype": torch.float32}
        encoder, reranker = (str(models.path(name)) for name in (models.DEFAULT_ENCODER, models.DEFAULT_RERANKER))
        self.encoder = SentenceTransformer(encoder, device="cpu", local_files_only=True, model_kwargs=fp32)
        assert_dtype(self.encoder, torch.float32)
        self.model = reference_model(reranker)
        self.passages = list(index.passages())
        self.index = faiss.IndexFlatIP(vectors.shape[1])
        self.index.add(vectors)
        self.candidates = candidates

    def __call__(self, query: str) -> list[str]:
        vector = self.encoder.encode([query], show_progress_bar=False)
        rows = [int(row) for row in self.index.search(vector, self.candidates)[1][0]]
        scores = self.model.predict([(query, self.passages[row].text) for row in rows], show_progress_bar=False)
        return [self.passages[rows[place]].id for place in np.argsort(-scores, kind="stable")]


def open_index(args: argparse.Namespace) -> tuple[PassageIndex, Any]:
    """Open the index, and read its vectors in the order of its passages."""
    index = PassageIndex.load(args.index, encoder=BiEncoder(models.DEFAULT_ENCODER, device="cpu"), verify="fast")
    if index.factory != "Flat":
        raise SystemExit(f"--index must be exact (--factory Flat), not {index.factory}.")
    stored = faiss.read_index(str(open_version(args.index, "fast").folder / "vectors.faiss"))
    vectors = stored.reconstruct_n(0, stored.ntotal)
    if len(vectors) != len(index):
        raise SystemExit("--index holds vectors of removed passages; build it anew.")
    return index, vectors


def our_search(index: PassageIndex, reranker: BioReranker, first_stage: Any, candidates: int) -> Search:
    search = TwoStageSearch(index, reranker, first_stage=first_stage)
    return lambda query: [line.passage.id for line in search.search(query, candidates=candidates)]


def load(args: argparse.Namespace) -> tuple[dict[str, Search], dict[str, str]]:
    index, vectors = open_index(args)
    systems: dict[str, Search] = {BASELINE: TheirStages(index, vectors, args.candidates)}
    not_possible: dict[str, str] = {}
    for backend, dtype in [tuple(one.split("-")) for one in args.system] or OURS:
        try:
            reranker = BioReranker(device="cpu", backend=backend, dtype=dtype)
            reranker.warm_up()
        except Exception as error:  # whatever a backend raises: it is not possible here
            not_possible[f"{backend} {dtype}"] = reason_of(error)
            continue
        for first_stage in FIRST_STAGES:
            systems[f"ours, {first_stage}, {backend} {dtype}"] = our_search(
                index, reranker, first_stage, args.candidates
            )
    return systems, not_possible


def compare(systems: Mapping[str, Search], queries: list[Query]) -> dict[str, Any]:
    found = {name: search(queries[0].text) for name, search in systems.items()}  # warms up
    prepared = {
        name: lambda number, search=search: lambda: search(queries[number + 1].text) for name, search in systems.items()
    }
    times = measure(prepared, len(queries) - 1, on_round=lambda n: print(f"question {n}", file=sys.stderr))
    rows = {}
    for name, seconds in times.seconds.items():
        p50, p95 = np.quantile(seconds, [0.5, 0.95])
        faster = ratios(times.seconds[BASELINE], seconds)
        rows[name] = {
            "p50_ms": 1000 * float(p50),
            "p95_ms": 1000 * float(p95),
            "share_of_p50": float(p50 / np.median(times.seconds[BASELINE])),
            "ratio": float(np.median(faster)),
            "ratio_lowest": min(faster),
            "ratio_highest": max(faster),
            "same_top_10_first_question": len(set(found[name][:10]) & set(found[BASELINE][:10])),
            "seconds": seconds,
        }
    return {"questions": len(queries) - 1, "systems": rows, "failed": times.failed}


def table(result: dict[str, Any]) -> str:
    lines = [
        [name, f"{row['p50_ms']:.1f}", f"{row['p95_ms']:.1f}", f"{row['ratio']:.2f}x", f"{row['share_of_p50']:.3f}"]
        for name, row in result["systems"].items()
    ]
    return markdown_table(["two stages", "p50 ms", "p95 ms", "ratio", "p50 / theirs"], lines)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with bioasq/")
    parser.add_argument("--index", type=Path, required=True, help="folder that biorerank index wrote of its corpus")
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--system", action="append", default=[], metavar="BACKEND-DTYPE", help="all if not given")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, help="JSON to write")
    args = parser.parse_args()
    if args.threads is not None:
        torch.set_num_threads(args.threads)
        faiss.omp_set_num_threads(args.threads)
    folder = args.data / "bioasq" if (args.data / "bioasq").is_dir() else args.data
    queries = read_queries(folder / "dev.jsonl.gz")[: args.questions + 1]
    systems, not_possible = load(args)
    result = {
        "machine": machine(),
        "candidates": args.candidates,
        "baseline": BASELINE,
        **compare(systems, queries),
        "not_possible": not_possible,
    }
    write_result(args.out, result, KEYS)
    print(table(result))
    for name, reason in not_possible.items():
        print(f"Not possible here: {name}: {reason}")


if __name__ == "__main__":
    main()
