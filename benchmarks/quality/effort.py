"""Measure what ``effort="auto"`` spares, and what it costs in quality.

    python -m benchmarks.quality.effort --data "$BIORERANK_DATA" --work build/eval --part calib \\
        --out benchmarks/results/effort.json

The candidates of a first stage are read by the rule of :class:`biorerank_plugins.reranking.effort.Reading`, with the
logits of one full ranking, for several quantiles. Stored for a first stage is the lowest one that on ``--part calib``
(BioASQ; comes first) changes the mean nDCG@10 by no more than 0.002 and no more than one list in twenty, and lowers it
by no more than 0.002 on any set of ``--part dev``; where there is none, all is read.
``unknown`` is BM25 whose scores have no name, as another retriever's. Without ``--part`` the time is measured.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
from sentence_transformers import CrossEncoder

from benchmarks.common import machine, read_result, reference_model, seconds_in_turns, spread, write_result
from benchmarks.quality.behind import limited
from benchmarks.quality.tasks import Scores, logits_of, open_index, parser_for, read_task
from biorerank_plugins import BioReranker, Candidate, PassageIndex, TwoStageSearch
from biorerank_plugins.articles.metadata import DEFAULT_KEYS
from biorerank_plugins.evaluation import compare, measure_run, run_from_order
from biorerank_plugins.first_stage import BiEncoder
from biorerank_plugins.models.stored import StoredValues
from biorerank_plugins.reranking.effort import Reading
from biorerank_plugins.reranking.first_stage_prior import choose_prior
from biorerank_plugins.reranking.options import RankOptions
from biorerank_plugins.reranking.order import Scored
from biorerank_plugins.reranking.passage_windows import PassageTexts
from biorerank_plugins.reranking.request import RankRequest
from biorerank_plugins.scoring.scores import PairScores
from biorerank_plugins.speed.rounds import ratios
from biorerank_plugins.speed.systems import folder_of

RESULT = "effort.json"
KEYS = ("reranker", "candidates", "chosen", "time", "calib", "dev")

SETS = ("bioasq-dev", "covidqa", "cystic-fibrosis", "pubmedqa", "check-covid", "trec-covid")
STAGES = {"hybrid": "hybrid", "dense": "dense", "lexical": "lexical", "unknown": "lexical"}
QUANTILES = (1.0, 0.95, 0.9)
TOP_K = (5, 10)
TOLERANCE, LEAST_SAME = 0.002, 0.95
ROUNDS = 7
DTYPES = ("auto", "int8")
EFFORTS = ("full", "auto")


def read(
    query: str, candidates: Sequence[Candidate], logits: Mapping[str, float], stored: StoredValues, top_k: int, q: float
) -> tuple[list[str], int]:
    """Ids of the first passages, and how many were read."""
    options = RankOptions(top_k=top_k, effort="auto")
    request = RankRequest.of(query, candidates, options, DEFAULT_KEYS)
    prior = choose_prior("stored", request.scored(), stored)
    reading = Reading(request, prior, options, q)
    while places := reading.wanted():
        values = np.float32([logits[candidates[place].passage.id] for place in places])
        none = np.zeros(len(places), np.bool_)
        texts = [PassageTexts(("",))] * len(places)
        reading.add(places, Scored(PairScores(values, none, none), texts, [0] * len(places), np.asarray))
    request, prior, scored = reading.result()
    assert scored is not None
    assert prior.added is not None
    values = scored.scores.logits + np.array(prior.added)
    ids = [one.passage.id for one in request.scored()]
    return [ids[n] for n in np.argsort(-values, kind="stable")[:top_k]], len(ids)


def measure(args: argparse.Namespace, name: str, encoder: BiEncoder, reranker: BioReranker) -> dict[str, Any]:
    """By first stage, length and quantile: the share that is read, equal lists, and nDCG@10."""
    task = limited(read_task(name, args.data, None, None if args.part == "calib" else args.part), args.queries)
    index = open_index(task, encoder, args.work)
    queries = list(task.queries.values())
    found = {
        stage: index.search_many(queries, args.candidates, first_stage=own)  # type: ignore[arg-type]
        for stage, own in STAGES.items()
    }
    found["unknown"] = [[Candidate(one.passage, one.score) for one in own] for own in found["lexical"]]
    lists: list[Scores] = [
        {query: {one.passage.id: 0.0 for one in own} for query, own in zip(task.queries, every, strict=True)}
        for every in found.values()
    ]
    logits = logits_of(task, lists, reranker, args.name, args.work)
    stored = StoredValues(args.reranker)
    rows: dict[str, Any] = {}
    for stage, every in found.items():
        asked = [one for one in zip(task.queries, queries, every, strict=True) if one[2]]
        # Where all are wanted all are read.
        whole = {q: read(text, own, logits[q], stored, len(own), 1.0)[0] for q, text, own in asked}
        for top_k in TOP_K:
            full = {q: order[:top_k] for q, order in whole.items()}
            exact = _values(full, task.qrels)
            for quantile in QUANTILES:
                ours = {q: read(text, own, logits[q], stored, top_k, quantile) for q, text, own in asked}
                values = _values({q: order for q, (order, _) in ours.items()}, task.qrels)
                rows.setdefault(stage, {}).setdefault(str(top_k), {})[str(quantile)] = {
                    "read": round(sum(n for _, n in ours.values()) / sum(len(own) for *_, own in asked), 3),
                    "same": round(statistics.mean(order == full[q] for q, (order, _) in ours.items()), 3),
                    "full": round(statistics.mean(exact.values()), 4),
                    "difference": round(statistics.mean(values.values()) - statistics.mean(exact.values()), 4),
                    "p": round(compare(exact, values).p_value, 4),
                }
    return {"queries": len(queries), "stages": rows}


def _values(order: Mapping[str, Sequence[str]], qrels: Mapping[str, Mapping[str, int]]) -> Mapping[str, float]:
    return measure_run(run_from_order(order), qrels, ["nDCG@10"]).per_query["nDCG@10"]


def chosen(calib: Mapping[str, Any], sets: Mapping[str, Any]) -> dict[str, float | None]:
    """The quantile that is stored for a first stage: the lowest that is good enough, for every length of list."""
    found: dict[str, float | None] = {}
    for stage, by_length in calib["stages"].items():
        elsewhere = [rows for one in sets.values() for rows in one["stages"][stage].values()]
        sound = [q for q in QUANTILES if _good(by_length.values(), str(q)) and _harmless(elsewhere, str(q))]
        found[stage] = min(sound, default=None)
    return found


def _good(by_length: Iterable[Mapping[str, Any]], q: str) -> bool:
    return all(abs(rows[q]["difference"]) <= TOLERANCE and rows[q]["same"] >= LEAST_SAME for rows in by_length)


def _harmless(by_length: Iterable[Mapping[str, Any]], q: str) -> bool:
    return all(rows[q]["difference"] >= -TOLERANCE for rows in by_length)


def means(sets: Mapping[str, Any], quantiles: Mapping[str, float | None]) -> dict[str, Any]:
    """Means over the sets, with the chosen quantiles; without one nothing is spared."""
    table: dict[str, Any] = {}
    for stage, quantile in quantiles.items():
        for top_k in TOP_K if quantile is not None else ():
            rows = [one["stages"][stage][str(top_k)][str(quantile)] for one in sets.values()]
            table.setdefault(stage, {})[str(top_k)] = {
                **{
                    name: round(statistics.mean(row[name] for row in rows), 4)
                    for name in ("read", "same", "difference")
                },
                "lowest difference": min(row["difference"] for row in rows),
                "lowest p": min(row["p"] for row in rows),
            }
    return table


def times(args: argparse.Namespace, encoder: BiEncoder) -> dict[str, Any]:
    """How many times as fast a search with 100 candidates is, in turns, over questions of BioASQ dev.

    Against full effort in the same precision, and against the same first stage with ``CrossEncoder.predict`` in fp32.
    """
    task = limited(read_task("bioasq-dev", args.data, None, "dev"), args.queries)
    queries = [*task.queries.values()]
    with open_index(task, encoder, args.work) as index, ExitStack() as stack:
        calls = {
            "predict": partial(
                _predicted, reference_model(folder_of(args.reranker, args.work)), index, queries, args.candidates
            )
        }
        for dtype in DTYPES:
            reranker = stack.enter_context(BioReranker(args.reranker, dtype=dtype))
            search = TwoStageSearch(index, reranker)
            calls |= {f"{dtype}, {one}": partial(_searched, search, queries, args.candidates, one) for one in EFFORTS}
        for call in calls.values():
            call()
        seconds = seconds_in_turns(calls, ROUNDS)

    def times_as_fast(one: str, other: str) -> dict[str, float]:
        return spread(ratios(seconds[other], seconds[one]))

    return {
        "machine": machine(),
        "rounds": ROUNDS,
        "queries": len(queries),
        "times as fast": {dtype: times_as_fast(f"{dtype}, auto", f"{dtype}, full") for dtype in DTYPES},
        "against predict": {name: times_as_fast(name, "predict") for name in calls if name != "predict"},
    }


def _predicted(model: CrossEncoder, index: PassageIndex, queries: Sequence[str], candidates: int) -> None:
    for query in queries:
        found = index.search(query, candidates)
        scores = model.predict([(query, one.passage.text) for one in found], show_progress_bar=False)
        np.argsort(-scores)


def _searched(search: TwoStageSearch, queries: Sequence[str], candidates: int, effort: Any) -> None:
    for query in queries:
        search.search(query, candidates=candidates, top_k=10, effort=effort)


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--part", choices=["calib", "dev"], help="left out: only the time is measured")
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--queries", type=int, default=24, help="of each set at most so many, drawn by hash")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = dict.fromkeys(KEYS) | {"dev": {}} | read_result(args.out)
    result |= {"reranker": args.name, "candidates": args.candidates}
    encoder = BiEncoder(args.encoder)
    if args.part is None:
        result["time"] = times(args, encoder)
        write_result(args.out, result, KEYS)
        print(result["time"])
        return
    with BioReranker(args.reranker) as reranker:
        if args.part == "calib":
            result["calib"] = measure(args, "bioasq-calib", encoder, reranker)
        for name in args.sets if args.part == "dev" else ():
            result["dev"].setdefault("sets", {})[name] = measure(args, name, encoder, reranker)
            write_result(args.out, result, KEYS)
    sets = result["dev"].get("sets", {})
    result["chosen"] = chosen(result["calib"], sets)
    if sets:
        result["dev"]["means"] = means(sets, result["chosen"])
    print(result["chosen"], result["dev"].get("means"))
    write_result(args.out, result, KEYS)


if __name__ == "__main__":
    main()
