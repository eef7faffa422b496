"""Fit what a reranker's ``biorerank.json`` stores: how first stages enter the order, and what a probability is.

    python -m benchmarks.quality.fit_stored --data "$BIORERANK_DATA" --work build/eval --reranker NAME \\
        --out benchmarks/results/stored.json

Everything is fitted on the BioASQ calibration questions: for each first stage the weight of its scores (of those within
0.002 of the best nDCG@10 the smallest, which trusts the model most), the score that leaves a logit as it is (the mean
over the first ten), and Platt's scaling with the threshold of "no evidence", the most precise that withholds at most
4 % of the answers; the same for the logit alone; and the weight of the rank of a first stage whose scale is not known:
the one that loses least against the best of each first stage, where it loses most.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.common import parser_of, write_result
from biorerank_plugins import BioReranker, Candidate, PassageIndex
from biorerank_plugins.evaluation import measure_run, run_from_order
from biorerank_plugins.evaluation.calibrate import (
    Answerability,
    Judged,
    answerability,
    calibrate,
    reliability_of,
    repeats,
)
from biorerank_plugins.first_stage import BiEncoder
from biorerank_plugins.models.calibration import Calibration
from biorerank_plugins.readers import read_passages, read_qrels, read_queries

RESULT = "stored.json"
KEYS = ("reranker", "encoder", "questions", "candidates", "stages", "alone", "rank_weight", "stored")
STAGES = ("lexical", "dense", "hybrid")
WEIGHTS = {
    "lexical": (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0),
    "dense": (0, 1, 2, 4, 6, 8, 10, 12, 14, 16, 20),
    "hybrid": (0, 1, 2, 4, 6, 8, 10, 12, 14, 16, 20),
}
RANK_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
GOOD = 0.002
MOST_WITHHELD = 0.04  # of the questions whose answer is there
PRECISIONS = (0.55, 0.6, 0.65, 0.7, 0.75, 0.8)
DEPTH = 10
Lists = dict[str, list[Candidate]]
Logits = dict[str, dict[str, float]]


def ndcg(order: Mapping[str, Sequence[str]], qrels: Mapping[str, Mapping[str, int]]) -> float:
    return measure_run(run_from_order({q: list(o) for q, o in order.items()}), qrels, ["nDCG@10"]).means["nDCG@10"]


def values_of(found: Lists, logits: Logits, weight: float, reference: float = 0.0) -> Logits:
    return {
        query: {c.passage.id: logits[query][c.passage.id] + weight * ((c.score or 0.0) - reference) for c in own}
        for query, own in found.items()
    }


def by_rank(found: Lists, logits: Logits, weight: float) -> Logits:
    return {
        query: {c.passage.id: logits[query][c.passage.id] - weight * math.log(n) for n, c in enumerate(own, start=1)}
        for query, own in found.items()
    }


def order_of(values: Logits) -> dict[str, list[str]]:
    return {query: sorted(own, key=lambda p: -own[p]) for query, own in values.items()}


def judged_of(values: Logits, qrels: Mapping[str, Mapping[str, int]], index: PassageIndex) -> list[Judged]:
    """Lay judgements beside values, best first."""
    rows = []
    for query, own in values.items():
        relevant = {passage for passage, grade in qrels[query].items() if grade > 0}
        told = repeats(relevant, index)
        order = order_of({query: own})[query]
        passages = [passage for p in order if (passage := index.get(p)) is not None]
        rows.append(
            Judged(tuple(own[p] for p in order), tuple(p in relevant for p in order), tuple(map(told, passages)))
        )
    return rows


def withholding_seldom(judged: Sequence[Judged]) -> tuple[Calibration, Answerability]:
    """Return the calibration whose threshold is the most precise of those that seldom withhold an answer."""
    chosen = calibrate(judged, depth=DEPTH, precision=min(PRECISIONS))
    answers = answerability(judged, chosen, threshold=chosen.evidence_threshold)
    for precision in PRECISIONS:
        more = calibrate(judged, depth=DEPTH, precision=precision)
        told = answerability(judged, more, threshold=more.evidence_threshold)
        if told.abstained_with <= MOST_WITHHELD:
            chosen, answers = more, told
    return chosen, answers


def fitted(
    values: Logits, qrels: Mapping[str, Mapping[str, int]], index: PassageIndex
) -> tuple[Calibration, dict[str, Any]]:
    judged = judged_of(values, qrels, index)
    calibration, answers = withholding_seldom(judged)
    told = reliability_of(judged, calibration, DEPTH)
    return calibration, {
        "ndcg": round(ndcg(order_of(values), qrels), 4),
        "ece": round(told.ece, 4),
        "auroc": round(answers.auroc, 4),
        "abstained_with": round(answers.abstained_with, 4),
        "abstained_without": round(answers.abstained_without, 4),
    }


def logits_of(found: Mapping[str, Lists], queries: Mapping[str, str], reranker: BioReranker, cache: Path) -> Logits:
    known: Logits = json.loads(cache.read_text()) if cache.exists() else {}
    requests, owners = [], []
    for query, text in queries.items():
        passages = {c.passage.id: c.passage for lists in found.values() for c in lists[query]}
        missing = [p for id_, p in passages.items() if id_ not in known.get(query, {})]
        if missing:
            requests.append((text, missing))
            owners.append(query)
    for query, ranking in zip(owners, reranker.rank_many(requests, fusion=None, show_progress=True), strict=True):
        known.setdefault(query, {}).update({ranked.passage.id: ranked.logit for ranked in ranking})
    cache.write_text(json.dumps(known))
    return known


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="working folder: logits")
    parser.add_argument("--index", type=Path, required=True, help="index of the BioASQ corpus")
    parser.add_argument("--reranker", help="default: the embedded one")
    parser.add_argument("--name", default="embedded")
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--keep-weights", action="store_true", help="fit the rest for the weights that are stored now")
    parser.add_argument("--limit", type=int, help="so many questions, the first ones")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    args.work.mkdir(parents=True, exist_ok=True)
    encoder = BiEncoder()
    qrels_all = read_qrels(args.data / "bioasq/qrels.calib.tsv")
    asked = {q.id: q.text for q in read_queries(args.data / "bioasq/calib.jsonl.gz") if q.id in qrels_all}
    asked = dict(list(asked.items())[: args.limit])
    qrels = {q: qrels_all[q] for q in asked}
    if not args.index.exists():
        PassageIndex.build(read_passages(args.data / "bioasq/corpus.jsonl.gz"), encoder=encoder).save(args.index)
    with PassageIndex.load(args.index, encoder=encoder, verify="fast") as index, BioReranker(args.reranker) as reranker:
        found: dict[str, Lists] = {
            stage: dict(
                zip(asked, index.search_many(list(asked.values()), args.candidates, first_stage=stage), strict=True)
            )
            for stage in STAGES
        }
        logits = logits_of(found, asked, reranker, args.work / f"calib-logits-{args.name}.json")
        names = {stage: index.scores_of(stage) for stage in STAGES}
        result: dict[str, Any] = {
            "reranker": args.name, "encoder": encoder.model_id, "questions": len(asked), "candidates": args.candidates,
            "stages": {}, "stored": {"fusion": {}},
        }  # fmt: skip
        for stage in STAGES:
            lists = found[stage]
            by_weight = {w: round(ndcg(order_of(values_of(lists, logits, w)), qrels), 4) for w in WEIGHTS[stage]}
            kept = reranker.stored_fusion(str(names[stage])) if args.keep_weights else None
            good = [w for w, value in by_weight.items() if value >= max(by_weight.values()) - GOOD]
            weight = min(good) if kept is None else kept
            reference = round(fmean(c.score or 0.0 for own in lists.values() for c in own[:DEPTH]), 4)
            calibration, measured = fitted(values_of(lists, logits, weight, reference), qrels, index)
            first = ndcg({q: [c.passage.id for c in own] for q, own in lists.items()}, qrels)
            result["stages"][stage] = {
                "first stage": round(first, 4), "weight": weight, "by weight": by_weight, **measured,
            }  # fmt: skip
            result["stored"]["fusion"][names[stage]] = {
                "weight": weight,
                "reference": reference,
                "calibration": calibration.to_dict(),
            }
        alone = values_of(found["hybrid"], logits, 0.0)
        calibration, result["alone"] = fitted(alone, qrels, index)
        result["stored"]["calibration"] = calibration.to_dict()
        ranks = {
            w: {stage: round(ndcg(order_of(by_rank(found[stage], logits, w)), qrels), 4) for stage in STAGES}
            for w in RANK_WEIGHTS
        }
        most = {stage: max(found_by[stage] for found_by in ranks.values()) for stage in STAGES}
        best = min(RANK_WEIGHTS, key=lambda w: max(most[stage] - ranks[w][stage] for stage in STAGES))
        result["rank_weight"] = {"by weight": ranks, "best": best}
        result["stored"]["rank_weight"] = best
    print(json.dumps(result, indent=1))
    write_result(args.out, result, KEYS)


if __name__ == "__main__":
    main()
