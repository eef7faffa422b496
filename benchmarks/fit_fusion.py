"""Fit the weight with which first-stage scores enter the order, on the calibration questions.

    python benchmarks/fit_fusion.py --index bioasq-index --data "$BIORERANK_DATA/bioasq" \\
        --out benchmarks/results/fusion.json

Prints nDCG@10 for each weight; the best one belongs into ``biorerank.json`` beside the reranker's weights.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from biorerank_plugins import BioReranker, PassageIndex
from biorerank_plugins.evaluation import measure_run, run_from_order
from biorerank_plugins.readers import read_qrels, read_queries

WEIGHTS = (0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 25, 30, 40)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder with calib.jsonl.gz and qrels.calib.tsv")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--candidates", type=int, default=100)
    args = parser.parse_args()

    queries, qrels = read_queries(args.data / "calib.jsonl.gz"), read_qrels(args.data / "qrels.calib.tsv")
    with PassageIndex.load(args.index) as index, BioReranker() as reranker:
        encoder = index.encoder.model_id
        found = index.search_many([query.text for query in queries], args.candidates)
        requests = [(query.text, candidates) for query, candidates in zip(queries, found, strict=True)]
        rankings = reranker.rank_many(requests, show_progress=True)
    values = {}
    for weight in WEIGHTS:
        order = {
            query.id: [r.passage.id for r in sorted(ranking, key=lambda r: -(r.logit + weight * r.retrieval_score))]
            for query, ranking in zip(queries, rankings, strict=True)
        }
        values[weight] = round(measure_run(run_from_order(order), qrels, ["nDCG@10"]).means["nDCG@10"], 4)
        print(f"weight {weight:>3}: nDCG@10 {values[weight]:.4f}")
    best = max(values, key=lambda weight: values[weight])
    result = {"encoder": encoder, "questions": len(queries), "candidates": args.candidates, "ndcg_at_10": values}
    args.out.write_text(json.dumps({**result, "best": best}, indent=2) + "\n", encoding="utf-8")
    print(f"best: {best}")


if __name__ == "__main__":
    main()
