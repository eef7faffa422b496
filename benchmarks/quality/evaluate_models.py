"""Measure first stages and rerankers on every dev set, in domain and out.

    python -m benchmarks.quality.evaluate_models --data "$BIORERANK_DATA" --reach build/data/reach --work build/eval \\
        --sentences --out benchmarks/results/models.json

All judged questions of a set count. Sets that are not named keep what an earlier run has found. Indexes and logits are
kept in ``--work``, so that a (query, passage) pair is scored once for all tables. The weights
are those stored with the models; beside them is shown what other weights of the hybrid's scores would give.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import read_result, read_rows, write_result
from benchmarks.quality.tasks import (
    FIRST_STAGES,
    WEIGHTS,
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
from biorerank_plugins import BioReranker, Passage
from biorerank_plugins.evaluation import compare, measure_run, run_from_order
from biorerank_plugins.first_stage import BiEncoder

RESULT = "models.json"
KEYS = ("encoder", "reranker", "candidates", "sets")

MEASURES = ["nDCG@10", "RR@10", "R@100"]
SETS = (
    *("bioasq-dev", "claim", "phrase", "answer", "pubmedqa", "liveqa", "covidqa"),
    *("cystic-fibrosis", "trec-covid", "check-covid"),
)


def measure(args: argparse.Namespace, encoder: BiEncoder, reranker: BioReranker) -> None:
    name = encoder.model_id
    keys = {"lexical": "lexical", "dense": name, "hybrid": f"hybrid/{name}"}
    kept = read_result(args.out).get("sets", {})  # sets of earlier runs that are not asked for now stay
    result: dict[str, Any] = {"encoder": name, "reranker": args.name, "candidates": 100, "sets": kept}
    for set_name in args.sets:
        task = read_task(set_name, args.data, args.reach)
        index = open_index(task, encoder, args.work)
        found = {stage: search(index, task, stage) for stage in FIRST_STAGES}
        runs = {stage: {q: list(scores) for q, scores in found[stage].items()} for stage in FIRST_STAGES}
        reranked = FIRST_STAGES if set_name in args.all_stages else ("hybrid",)
        logits = logits_of(task, [found[stage] for stage in reranked], reranker, args.name, args.work)
        for stage in reranked:
            weight = reranker.stored_fusion(keys[stage])
            runs[f"{stage} + reranker alone"] = fused(found[stage], logits, None)
            runs[f"{stage} + reranker"] = fused(found[stage], logits, weight)
        result["sets"][set_name] = table(task, runs)
        result["sets"][set_name]["hybrid by weight"] = {
            weight: round(ndcg(fused(found["hybrid"], logits, weight), task), 4) for weight in WEIGHTS
        }
        show(set_name, result["sets"][set_name])
        index.close()
        write_result(args.out, result, KEYS)
    if args.sentences:
        result["sets"]["indoc-dev"] = sentences(args.data, encoder, reranker)
        show("indoc-dev", result["sets"]["indoc-dev"])
        write_result(args.out, result, KEYS)


def table(task: Task, runs: Mapping[str, dict[str, list[str]]], measures: Sequence[str] = MEASURES) -> dict[str, Any]:
    """Means of every run, and each reranked run against its first stage."""
    measured = {name: measure_run(run_from_order(order), task.qrels, list(measures)) for name, order in runs.items()}
    rows: dict[str, Any] = {}
    for name, values in measured.items():
        rows[name] = {measure: round(mean, 4) for measure, mean in values.means.items()}
        before = name.partition(" + ")[0]
        if before != name:
            main = measures[0]
            against = compare(measured[before].per_query[main], values.per_query[main])
            rows[name] |= {
                "delta": round(against.delta, 4),
                "p": round(against.p_value, 5),
                "won": against.wins,
                "lost": against.losses,
            }
    return {"queries": len(task.queries), "passages": len(task.passages), "runs": rows}


def sentences(data: Path, encoder: BiEncoder, reranker: BioReranker) -> dict[str, Any]:
    """Mean average precision of the sentences of an abstract, for abstracts with at least one of each label."""
    questions = {row["id"]: row["question"] for row in read_rows(data / "bioasq/dev.jsonl.gz")}
    queries: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    passages: dict[str, list[Passage]] = {}
    for number, row in enumerate(read_rows(data / "bioasq/indoc.dev.jsonl.gz")):
        labels = [sentence["label"] for sentence in row["sentences"]]
        if row["qid"] in questions and 0 < sum(labels) < len(labels):
            key = f"a{number}"
            queries[key] = questions[row["qid"]]
            qrels[key] = {f"s{n}": label for n, label in enumerate(labels)}
            passages[key] = [Passage(f"s{n}", sentence["text"]) for n, sentence in enumerate(row["sentences"])]
    found: Scores = {}
    vectors = encoder.encode_queries(list(queries.values()))
    for vector, (key, own) in zip(vectors, passages.items(), strict=True):
        cosines = encoder.encode_passages(own) @ vector
        found[key] = {p.id: float(c) for p, c in sorted(zip(own, cosines, strict=True), key=lambda item: -item[1])}
    rankings = reranker.rank_many([(queries[key], passages[key]) for key in queries])
    logits = {key: {r.passage.id: r.logit for r in ranking} for key, ranking in zip(queries, rankings, strict=True)}
    weight = reranker.stored_fusion(encoder.model_id)
    runs = {
        "dense": {key: list(scores) for key, scores in found.items()},
        "dense + reranker alone": fused(found, logits, None),
        "dense + reranker": fused(found, logits, weight),
    }
    everything = [passage for own in passages.values() for passage in own]
    return table(Task("indoc-dev", "", everything, queries, qrels), runs, ["AP", "nDCG@10"])


def show(name: str, result: Mapping[str, Any]) -> None:
    print(f"\n{name}: {result['queries']} queries, {result['passages']} passages")
    for run, row in result["runs"].items():
        print(f"  {run:<26}" + "  ".join(f"{key} {value}" for key, value in row.items()), flush=True)


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--reach", type=Path, help="folder that recipe_data.py wrote")
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--all-stages", nargs="*", default=["bioasq-dev"], help="sets reranked after every first stage")
    parser.add_argument("--sentences", action="store_true", help="also sentences inside an abstract")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    args.work.mkdir(parents=True, exist_ok=True)
    with BioReranker(args.reranker) as reranker:
        measure(args, BiEncoder(args.encoder), reranker)


if __name__ == "__main__":
    main()
