"""Measure a reranker behind retrievers it was never fitted to, and fit how much their order should count.

    python -m benchmarks.quality.behind --data "$BIORERANK_DATA" --reach build/data/reach --work build/eval \\
        --minilm build/all-MiniLM-L6-v2 --mpnet build/all-mpnet-base-v2 --out benchmarks/results/behind.json

Five unlike first stages: BM25, all-MiniLM-L6-v2, all-mpnet-base-v2 (128 tokens of each passage), our bi-encoder, our
hybrid. To the reranker each is a stranger: it sees an order, not whose it is. ``alone`` is by logit; a number is the
weight of ``-ln(rank)`` beside the logit. Also measured where a stored weight exists: the weight for the scores.

Weights are chosen on ``--part dev``: the one whose worst loss against the better of "first stage" and "alone" is the
smallest. ``--part report`` shows what the chosen weight does on questions that chose nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.common import read_result, write_result
from benchmarks.quality.tasks import Scores, Task, fused, logits_of, open_index, ordered, parser_for, read_task, search
from biorerank_plugins import BioReranker
from biorerank_plugins.evaluation import compare, measure_run, run_from_order
from biorerank_plugins.evaluation.significance import holm
from biorerank_plugins.first_stage import BiEncoder

RESULT = "behind.json"
KEYS = ("reranker", "candidates", "rank weight", "dev", "report")

SETS = (
    "bioasq-dev",
    "claim",
    "phrase",
    "answer",
    "pubmedqa",
    "liveqa",
    "covidqa",
    "check-covid",
    "cystic-fibrosis",
    "trec-covid",
)
CHOOSING = SETS[:7]  # nothing is chosen on the last three
RANK_WEIGHTS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
MPNET_TOKENS = 128
# Passages of a thousand characters take a base-size model four a second on a core: 55,258 of them are not for here.
MPNET_SKIPS = ("bioasq-dev", "claim", "phrase", "answer", "cystic-fibrosis", "trec-covid")


def by_rank(found: Scores, logits: Scores, weight: float) -> dict[str, list[str]]:
    """Order candidates as :meth:`BioReranker.rank` does with a rank weight of a first stage it does not know."""
    return ordered(found, lambda query, p, rank: logits[query][p] - weight * math.log(rank))


def lists(task: Task, args: argparse.Namespace, encoders: Mapping[str, BiEncoder]) -> Iterator[tuple[str, str, Scores]]:
    """Each first stage: its name, the key of its stored weight, and what it finds."""
    own = encoders["dense"]
    for name, encoder in encoders.items():
        if name == "mpnet" and task.name in MPNET_SKIPS:
            continue
        index = open_index(task, encoder, args.work)
        yield name, encoder.model_id, search(index, task, "dense", args.candidates)
        if encoder is own:
            yield "lexical", "lexical", search(index, task, "lexical", args.candidates)
            yield "hybrid", f"hybrid/{own.model_id}", search(index, task, "hybrid", args.candidates)
        index.close()


def measure(args: argparse.Namespace, task: Task, encoders: Mapping[str, BiEncoder], reranker: BioReranker) -> Any:
    """Mean nDCG@10 by first stage and way, with the paired test of each against the first stage."""
    found = {name: (key, scores) for name, key, scores in lists(task, args, encoders)}
    logits = logits_of(task, [scores for _, scores in found.values()], reranker, args.name, args.work)
    rows: dict[str, Any] = {}
    for name, (key, scores) in found.items():
        orders = {"first stage": {q: list(own) for q, own in scores.items()}, "alone": fused(scores, logits, None)}
        orders |= {str(weight): by_rank(scores, logits, weight) for weight in RANK_WEIGHTS}
        stored = reranker.stored_fusion(key)
        if stored is not None:
            orders["stored"] = fused(scores, logits, stored)
        values = {way: measure_run(run_from_order(order), task.qrels, ["nDCG@10"]) for way, order in orders.items()}
        before = values["first stage"].per_query["nDCG@10"]
        rows[name] = {way: round(one.means["nDCG@10"], 4) for way, one in values.items()}
        rows[name]["p"] = {
            way: round(compare(before, one.per_query["nDCG@10"]).p_value, 5)
            for way, one in values.items()
            if way != "first stage"
        }
    return {"queries": len(task.queries), "passages": len(task.passages), "first stages": rows}


def limited(task: Task, most: int | None) -> Task:
    """Return a task with a part of its queries."""
    chosen = sorted(task.queries, key=lambda query: hashlib.sha1(query.encode()).hexdigest())[:most]
    return replace(task, queries={q: task.queries[q] for q in chosen}, qrels={q: task.qrels[q] for q in chosen})


def choose(sets: Mapping[str, Any]) -> dict[str, Any]:
    """Return the worst loss of each weight against the better of "first stage" and "alone", and the best one."""
    losses: dict[str, float] = {}
    gains: dict[str, float] = {}
    for weight in ("alone", *map(str, RANK_WEIGHTS)):
        rows = [row for name in CHOOSING if name in sets for row in sets[name]["first stages"].values()]
        losses[weight] = round(min(row[weight] - max(row["first stage"], row["alone"]) for row in rows), 4)
        gains[weight] = round(sum(row[weight] - row["first stage"] for row in rows) / len(rows), 4)
    chosen = max((w for w in losses if w != "alone"), key=lambda w: losses[w])
    return {"worst loss": losses, "mean gain": gains, "chosen": float(chosen)}


def mean_gains(sets: Mapping[str, Any], weight: str) -> dict[str, Any]:
    """Mean gain over each first stage, alone and with the chosen weight, and the sets in which it loses for sure."""
    table: dict[str, Any] = {}
    for stage in dict.fromkeys(name for one in sets.values() for name in one["first stages"]):
        rows = {name: one["first stages"][stage] for name, one in sets.items() if stage in one["first stages"]}
        gain = {
            way: sum(row[way] - row["first stage"] for row in rows.values()) / len(rows) for way in ("alone", weight)
        }
        adjusted = holm({name: row["p"][weight] for name, row in rows.items()})
        table[stage] = {
            "alone": round(gain["alone"], 4),
            "with rank": round(gain[weight], 4),
            "lost": sorted(
                name for name, row in rows.items() if row[weight] < row["first stage"] and adjusted[name] < 0.05
            ),
        }
    return table


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--reach", type=Path, help="folder that recipe_data.py wrote")
    parser.add_argument("--minilm", help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--mpnet", help="folder of all-mpnet-base-v2")
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--part", choices=["dev", "report"], required=True)
    parser.add_argument("--candidates", type=int, default=50)
    parser.add_argument("--queries", type=int, help="of each set at most so many, drawn by hash; the result tells")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    args.work.mkdir(parents=True, exist_ok=True)
    encoders = {"dense": BiEncoder(args.encoder)}
    if args.minilm:
        encoders["minilm"] = BiEncoder(args.minilm)
    if args.mpnet:
        encoders["mpnet"] = BiEncoder(args.mpnet, max_length=MPNET_TOKENS)
    result: dict[str, Any] = dict.fromkeys(KEYS) | {"reranker": args.name, "candidates": args.candidates}
    result |= {"dev": {}, "report": {}}
    result |= read_result(args.out)
    with BioReranker(args.reranker) as reranker:
        for name in args.sets:
            task = limited(read_task(name, args.data, args.reach, args.part), args.queries)
            result[args.part].setdefault("sets", {})[name] = measure(args, task, encoders, reranker)
            print(name, result[args.part]["sets"][name], flush=True)
            write_result(args.out, result, KEYS)
    if args.part == "dev":
        result["dev"]["choice"] = choose(result["dev"]["sets"])
        result["rank weight"] = result["dev"]["choice"]["chosen"]
    if result["rank weight"] is not None:
        result[args.part]["gains"] = mean_gains(result[args.part]["sets"], str(result["rank weight"]))
    print(result[args.part].get("choice"), result[args.part].get("gains"))
    write_result(args.out, result, KEYS)


if __name__ == "__main__":
    main()
