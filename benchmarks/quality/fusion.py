"""Fit the weights of the hybrid first stage and of the fusion with the reranker, on calibration questions.

    python -m benchmarks.quality.fusion --data "$BIORERANK_DATA" --work build/eval \\
        --out benchmarks/results/fusion.json

Prints what belongs into the two ``biorerank.json`` files, and writes it under ``--name``, beside other runs. Indexes
and logits are kept in ``--work``, so that a (query, passage) pair is scored once for all tables.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping
from typing import Any

from benchmarks.common import read_result, write_result
from benchmarks.quality.tasks import (
    FIRST_STAGES,
    WEIGHTS,
    fused,
    logits_of,
    ndcg,
    open_index,
    parser_for,
    read_task,
    search,
)
from biorerank_plugins import BioReranker
from biorerank_plugins.first_stage import BiEncoder
from biorerank_plugins.first_stage.fusion import Hybrid

RESULT = "fusion.json"
KEYS_OF_EACH = ("questions", "encoder", "first stage", "lexical", "dense", "hybrid")

LEXICAL_WEIGHTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8)
LEXICAL_FUSION = (0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)


def fit(args: argparse.Namespace, encoder: BiEncoder, reranker: BioReranker) -> dict[str, Any]:
    task = read_task("bioasq-calib", args.data, None)
    index = open_index(task, encoder, args.work)
    by_weight = {}
    for weight in LEXICAL_WEIGHTS:
        index.hybrid = Hybrid("weighted", lexical_weight=weight)
        by_weight[weight] = ndcg({q: list(s) for q, s in search(index, task, "hybrid").items()}, task)
    index.hybrid = Hybrid("rrf")
    by_rank = ndcg({q: list(s) for q, s in search(index, task, "hybrid").items()}, task)
    lexical_weight = max(by_weight, key=lambda w: by_weight[w])
    result: dict[str, Any] = {
        "questions": len(task.queries),
        "encoder": encoder.model_id,
        "first stage": {"reciprocal rank": by_rank, "weighted": by_weight, "best": lexical_weight},
    }
    print(json.dumps(result, indent=1))
    if args.first_stage_only:
        return result
    index.hybrid = Hybrid("weighted", lexical_weight=args.lexical_weight or lexical_weight)
    found = {stage: search(index, task, stage) for stage in FIRST_STAGES}
    logits = logits_of(task, list(found.values()), reranker, args.name, args.work)
    for stage, scores in found.items():
        grid = LEXICAL_FUSION if stage == "lexical" else WEIGHTS
        values = {weight: round(ndcg(fused(scores, logits, weight), task), 4) for weight in grid}
        result[stage] = {"weights": values, "good": good_weights(values)}
        print(stage, json.dumps(result[stage]))
    return result


def good_weights(values: Mapping[float, float]) -> list[float]:
    """Return the weights within 0.002 of the best: among them, what measures best over all dev sets is the default."""
    return [weight for weight, value in values.items() if value >= max(values.values()) - 0.002]


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--lexical-weight", type=float, help="take this weight of BM25 instead of the best")
    parser.add_argument("--first-stage-only", action="store_true", help="without the reranker's weights")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    args.work.mkdir(parents=True, exist_ok=True)
    with BioReranker(args.reranker) as reranker:
        result = fit(args, BiEncoder(args.encoder), reranker)
    write_result(args.out, read_result(args.out) | {args.name: result}, KEYS_OF_EACH, each=True)


if __name__ == "__main__":
    main()
