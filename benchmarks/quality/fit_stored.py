"""Fit what a reranker's ``biorerank.json`` stores: how first stages enter the order, and what a probability is.

    python -m benchmarks.quality.fit_stored --data "$BIORERANK_DATA" --work build/eval --reranker NAME \\
        --out benchmarks/results/stored.json

Everything is fitted on the BioASQ calibration questions: for each first stage the weight of its scores (of those within
0.002 of the best nDCG@10 the smallest, which trusts the model most), the score that leaves a logit as it is (the mean
over the first ten), and Platt's scaling with the threshold of "no evidence", the most precise that withholds at most
4 % of the answers; and what ``fit_answers.py`` fits. The weight of the rank of a first
stage whose scale is not known is taken from ``behind.json``.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.common import read_result, write_result
from benchmarks.quality.fit_answers import cases, fit_answering, fit_evidence, off_topic_features, off_topic_questions
from benchmarks.quality.tasks import (
    FIRST_STAGES,
    Scores,
    Task,
    fused,
    logits_of,
    ndcg,
    open_index,
    parser_for,
    read_task,
    search,
)
from biorerank_plugins import BioReranker, PassageIndex
from biorerank_plugins._common.files import write_json
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
from biorerank_plugins.models.stored import SETTINGS_FILE, read_stored

RESULT = "stored.json"
KEYS = ("reranker", "encoder", "questions", "candidates", "stages", "alone", "answering", "evidence", "stored")
WEIGHTS = {
    "lexical": (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0),
    "dense": (0, 1, 2, 4, 6, 8, 10, 12, 14, 16, 20),
    "hybrid": (0, 1, 2, 4, 6, 8, 10, 12, 14, 16, 20),
}
GOOD = 0.002
MOST_WITHHELD = 0.04  # of the questions whose answer is there
PRECISIONS = (0.55, 0.6, 0.65, 0.7, 0.75, 0.8)
DEPTH = 10
CANDIDATES = 100


def values_of(found: Scores, logits: Scores, weight: float, reference: float) -> Scores:
    """The value that orders each candidate, as a reranker with this weight and reference makes it."""
    return {
        query: {passage: logits[query][passage] + weight * (score - reference) for passage, score in scores.items()}
        for query, scores in found.items()
    }


def order_of(values: Scores) -> dict[str, list[str]]:
    return {query: sorted(own, key=lambda passage: -own[passage]) for query, own in values.items()}


def judged_of(values: Scores, task: Task, index: PassageIndex) -> list[Judged]:
    """Lay judgements beside values, best first."""
    rows = []
    for query, order in order_of(values).items():
        relevant = {passage for passage, grade in task.qrels[query].items() if grade > 0}
        told = repeats(relevant, index)
        passages = [passage for id_ in order if (passage := index.get(id_)) is not None]
        rows.append(
            Judged(
                tuple(values[query][id_] for id_ in order),
                tuple(id_ in relevant for id_ in order),
                tuple(map(told, passages)),
            )
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


def fitted(values: Scores, task: Task, index: PassageIndex) -> tuple[Calibration, dict[str, Any]]:
    """Return the calibration of values, and how good they and it are."""
    judged = judged_of(values, task, index)
    calibration, answers = withholding_seldom(judged)
    return calibration, {
        "ndcg": round(ndcg(order_of(values), task), 4),
        "ece": round(reliability_of(judged, calibration, DEPTH).ece, 4),
        "auroc": round(answers.auroc, 4),
        "abstained_with": round(answers.abstained_with, 4),
        "abstained_without": round(answers.abstained_without, 4),
    }


def fit(args: argparse.Namespace, encoder: BiEncoder, reranker: BioReranker) -> dict[str, Any]:
    task = read_task("bioasq-calib", args.data, None)
    stages, fusion = {}, {}
    quantiles = read_result(args.effort).get("chosen") or {}
    with open_index(task, encoder, args.work) as index:
        found = {stage: search(index, task, stage, CANDIDATES) for stage in FIRST_STAGES}
        logits = logits_of(task, list(found.values()), reranker, args.name, args.work)
        told: list[Any] = []
        for stage, scores in found.items():
            by_weight = {w: round(ndcg(fused(scores, logits, w), task), 4) for w in WEIGHTS[stage]}
            name = str(index.scores_of(stage))  # type: ignore[arg-type]
            kept = reranker.stored_fusion(name) if args.keep_weights else None
            good = [w for w, value in by_weight.items() if value >= max(by_weight.values()) - GOOD]
            weight = min(good) if kept is None else kept
            reference = round(fmean(score for own in scores.values() for score in list(own.values())[:DEPTH]), 4)
            values = values_of(scores, logits, weight, reference)
            calibration, measured = fitted(values, task, index)
            first = round(ndcg({query: list(own) for query, own in scores.items()}, task), 4)
            stages[stage] = {"first stage": first, "weight": weight, "by weight": by_weight, **measured}
            fusion[name] = {"weight": weight, "reference": reference, "calibration": calibration.to_dict()}
            if quantiles.get(stage) is not None:
                fusion[name]["quantile"] = quantiles[stage]
            told += cases(values, task, index, calibration)
        evidence, of_evidence = fit_evidence(
            args.data, values, task, index, reranker, args.work / f"sentences-{args.name}.json"
        )
        alone_values = values_of(found["hybrid"], logits, 0.0, 0.0)
        _, alone = fitted(alone_values, task, index)
        calibration = reranker.calibration  # by ``biorerank calibrate``
        told += cases(alone_values, task, index, calibration)
        told += off_topic_features(off_topic_questions(args.data), index, reranker, calibration)
    answering, of_answering = fit_answering(told)
    rank_weight = read_result(args.behind).get("rank weight")
    beside_reader = read_result(args.second_reader).get("rank weight")
    reader = {} if beside_reader is None else {"encoder": encoder.model_id, "rank_weight": beside_reader}
    return {
        "reranker": args.name,
        "encoder": encoder.model_id,
        "questions": len(task.queries),
        "candidates": CANDIDATES,
        "stages": stages,
        "alone": alone,
        "answering": of_answering,
        "evidence": of_evidence,
        "stored": {
            "fusion": fusion,
            "answering": answering.to_dict(),
            "evidence": asdict(evidence),
            **({} if rank_weight is None else {"rank_weight": rank_weight}),
            **({"second_reader": reader} if reader else {}),
        },
    }


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--keep-weights", action="store_true", help="fit the rest for the weights that are stored now")
    parser.add_argument("--behind", type=Path, help="behind.json, which says the weight of the rank")
    parser.add_argument("--second-reader", type=Path, help="second_reader.json, which says the rank's weight beside it")
    parser.add_argument("--effort", type=Path, help="effort.json, which says how far a list is read")
    parser.add_argument("--store", type=Path, help="folder of the reranker: write what was fitted into it")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    args.work.mkdir(parents=True, exist_ok=True)
    with BioReranker(args.reranker) as reranker:
        result = fit(args, BiEncoder(args.encoder), reranker)
    print(json.dumps(result, indent=1))
    write_result(args.out, result, KEYS)
    if args.store:
        write_json(args.store / SETTINGS_FILE, {**read_stored(args.store), **result["stored"]})


if __name__ == "__main__":
    main()
