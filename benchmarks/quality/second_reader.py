"""Measure what the bi-encoder's reading of candidates brings behind retrievers that the reranker does not know.

    python -m benchmarks.quality.second_reader --data "$BIORERANK_DATA" --work build/eval --part dev \\
        --minilm build/all-MiniLM-L6-v2 --out benchmarks/results/second_reader.json

``fusion="second-reader"`` as :class:`BioReranker` computes it, on collections that nothing was trained on: behind BM25
and all-MiniLM-L6-v2, each seen as an order of unknown scale. ``texts`` are the same candidates without their order. The
weight of the rank is chosen on ``--part dev``; ``--part report`` shows what the chosen one does. Without ``--part`` the
time is measured.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from benchmarks.common import machine, read_result, read_rows, seconds_in_turns, spread, write_result
from benchmarks.quality.behind import by_rank, limited
from benchmarks.quality.tasks import Scores, Task, logits_of, open_index, parser_for, read_task, search
from biorerank_plugins import BioReranker
from biorerank_plugins.evaluation import compare, measure_run, run_from_order
from biorerank_plugins.evaluation.significance import holm
from biorerank_plugins.first_stage import BiEncoder
from biorerank_plugins.models.stored import StoredValues

RESULT = "second_reader.json"
KEYS = ("reranker", "candidates", "weight", "rank weight", "time", "dev", "report")

SETS = ("pubmedqa", "liveqa", "covidqa", "cystic-fibrosis", "trec-covid")
RANK_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
ROUNDS = 7


def cosines_of(task: Task, lists: list[Scores], encoder: BiEncoder, args: argparse.Namespace) -> Scores:
    """Cosines of every listed pair; those computed before come from the working folder."""
    cache = args.work / f"cosines-{encoder.content_hash[:8]}-{task.name}.json"
    known: Scores = json.loads(cache.read_text()) if cache.exists() else {}
    passages = {passage.id: passage for passage in task.passages}
    for query, text in task.queries.items():
        listed = dict.fromkeys(p for scores in lists for p in scores[query])
        missing = [p for p in listed if p not in known.get(query, {})]
        if missing:
            products = encoder.encode_passages([passages[p] for p in missing]) @ encoder.encode_queries([text])[0]
            known.setdefault(query, {}).update(zip(missing, map(float, products), strict=True))
    cache.write_text(json.dumps(known))
    return known


def measure(args: argparse.Namespace, task: Task, encoders: Mapping[str, BiEncoder], reranker: BioReranker) -> Any:
    """Mean nDCG@10 by first stage and way, with the paired test of each against logit and rank."""
    lexical = open_index(task, encoders["own"], args.work)
    lists = {"lexical": search(lexical, task, "lexical", args.candidates)}
    if "minilm" in encoders:
        foreign = open_index(task, encoders["minilm"], args.work)
        lists["minilm"] = search(foreign, task, "dense", args.candidates)
    logits = logits_of(task, [*lists.values()], reranker, args.name, args.work)
    cosines = cosines_of(task, [*lists.values()], encoders["own"], args)

    def read(found: Scores, rank_weight: float) -> dict[str, list[str]]:
        both = {q: {p: logits[q][p] + args.weight * cosines[q][p] for p in scores} for q, scores in found.items()}
        return by_rank(found, both, rank_weight)

    rows: dict[str, Any] = {}
    for name, found in lists.items():
        orders = {
            "first stage": {query: list(scores) for query, scores in found.items()},
            "alone": by_rank(found, logits, 0.0),
            "logit and rank": by_rank(found, logits, args.rank_weight),
            **{str(weight): read(found, weight) for weight in RANK_WEIGHTS},
        }
        values = {way: measure_run(run_from_order(order), task.qrels, ["nDCG@10"]) for way, order in orders.items()}
        per_query = {way: one.per_query["nDCG@10"] for way, one in values.items()}
        rows[name] = {way: round(one.means["nDCG@10"], 4) for way, one in values.items()}
        rows[name]["p"] = {
            str(weight): round(compare(per_query["logit and rank"], per_query[str(weight)]).p_value, 5)
            for weight in RANK_WEIGHTS
        } | {"texts": round(compare(per_query["alone"], per_query["0.0"]).p_value, 5)}
    return {"queries": len(task.queries), "passages": len(task.passages), "first stages": rows}


def times(reranker: BioReranker, args: argparse.Namespace) -> dict[str, Any]:
    """How many times as long a ranking of 100 BioASQ snippets takes with a second reader, in turns."""
    texts = [row["text"] for row in read_rows(args.data / "bioasq/corpus.jsonl.gz")[:100]]
    query = "Which drug reverses the effect of dabigatran?"
    calls = {
        str(fusion): lambda fusion=fusion: reranker.rank(query, texts, fusion=fusion)
        for fusion in (None, "second-reader")
    }
    for call in calls.values():
        call()
    seconds = seconds_in_turns(calls, ROUNDS)
    ratios = [read / alone for alone, read in zip(*seconds.values(), strict=True)]
    return {"machine": machine(), "rounds": ROUNDS, "times": spread(ratios)}


def means(sets: Mapping[str, Any], weight: str) -> dict[str, Any]:
    """Means over the sets, and the sets that gain or lose for sure."""
    table: dict[str, Any] = {}
    for stage in dict.fromkeys(name for one in sets.values() for name in one["first stages"]):
        rows = {name: one["first stages"][stage] for name, one in sets.items()}
        shown = {"first stage": "first stage", "logit and rank": "logit and rank", "second reader": weight}
        shown |= {"texts, alone": "alone", "texts, second reader": "0.0"}
        table[stage] = {
            title: round(sum(row[way] for row in rows.values()) / len(rows), 4) for title, way in shown.items()
        }
        adjusted = holm({name: row["p"][weight] for name, row in rows.items()})
        for word, sign in (("gained", 1), ("lost", -1)):
            table[stage][word] = sorted(
                name
                for name, row in rows.items()
                if sign * (row[weight] - row["logit and rank"]) > 0 and adjusted[name] < 0.05
            )
    return table


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--minilm", help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--part", choices=["dev", "report"], help="left out: only the time is measured")
    parser.add_argument("--candidates", type=int, default=30)
    parser.add_argument("--queries", type=int, default=40, help="of each set at most so many, drawn by hash")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    stored = StoredValues(args.reranker)
    reader = stored.second_reader
    if reader is None:
        raise SystemExit("This reranker stores no second reader.")
    args.weight = stored.fusion[reader.encoder].weight
    args.rank_weight = stored.rank_weight
    encoders = {"own": BiEncoder(reader.encoder)} | ({"minilm": BiEncoder(args.minilm)} if args.minilm else {})
    result: dict[str, Any] = dict.fromkeys(KEYS) | {"dev": {}, "report": {}} | read_result(args.out)
    result |= {"reranker": args.name, "candidates": args.candidates, "weight": args.weight}
    with BioReranker(args.reranker) as reranker:
        if args.part is None:
            result["time"] = times(reranker, args)
            print(result["time"])
            write_result(args.out, result, KEYS)
            return
        for name in args.sets:
            task = limited(read_task(name, args.data, None, args.part), args.queries)
            result[args.part].setdefault("sets", {})[name] = measure(args, task, encoders, reranker)
            print(name, result[args.part]["sets"][name], flush=True)
            write_result(args.out, result, KEYS)
    sets = result[args.part]["sets"]
    if args.part == "dev":
        mean = {
            w: sum(row[str(w)] for one in sets.values() for row in one["first stages"].values()) for w in RANK_WEIGHTS
        }
        result["rank weight"] = max(mean, key=lambda weight: mean[weight])
    result[args.part]["means"] = means(sets, str(result["rank weight"]))
    print(result["rank weight"], json.dumps(result[args.part]["means"], indent=1))
    write_result(args.out, result, KEYS)


if __name__ == "__main__":
    main()
