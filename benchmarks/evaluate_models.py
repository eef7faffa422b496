"""Measure first stages and rerankers on every dev set, in domain and out; fit the fusion weights on calib.

    python benchmarks/evaluate_models.py fit --data "$BIORERANK_DATA" --work build/eval --reranker NAME
    python benchmarks/evaluate_models.py measure --data "$BIORERANK_DATA" --reach build/data/reach --work build/eval \\
        --reranker NAME --out benchmarks/results/models.json

Indexes and logits are kept in ``--work``, so that a (query, passage) pair is scored once for all tables. ``fit`` prints
what belongs into the two ``biorerank.json`` files; ``measure`` uses what is stored there, and shows what other weights
of the hybrid's scores would give.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biorerank_plugins import BioReranker, Passage, PassageIndex
from biorerank_plugins.evaluation import compare, measure_run, run_from_order
from biorerank_plugins.first_stage import BiEncoder
from biorerank_plugins.first_stage.fusion import Hybrid
from biorerank_plugins.readers import read_qrels

MEASURES = ["nDCG@10", "RR@10", "R@100"]
FIRST_STAGES = ("lexical", "dense", "hybrid")
LEXICAL_WEIGHTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8)
WEIGHTS = (0, 0.5, 1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 20, 25, 30, 40, 60)
LEXICAL_FUSION = (0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)
# Rounds of 100 candidates with long passages take minutes on two cores: so many queries of each set, the first ones.
LIMITS = {"claim": 80, "phrase": 80, "answer": 40, "pubmedqa": 100}
SETS = ("bioasq-dev", "claim", "phrase", "answer", "pubmedqa", "liveqa", "covidqa")
Scores = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Task:
    """A judged collection."""

    name: str
    corpus: str
    passages: Sequence[Passage]
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]


def read(path: Path) -> list[dict[str, Any]]:
    opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")
    with opened as file:
        return [json.loads(line) for line in file]


def read_task(name: str, data: Path, reach: Path | None) -> Task:
    folders = {"pubmedqa": "pubmedqa", "liveqa": "liveqa_medquad", "covidqa": "covidqa_lit"}
    if name.startswith("bioasq-"):
        split = name.removeprefix("bioasq-")
        corpus, folder = "bioasq", data / "bioasq"
        rows, asked = read(folder / "corpus.jsonl.gz"), read(folder / f"{split}.jsonl.gz")
        qrels = read_qrels(folder / f"qrels.{split}.tsv")
    elif name in folders:
        corpus, folder = name, data / folders[name]
        rows, asked = read(folder / "corpus.jsonl.gz"), read(folder / "queries.jsonl.gz")
        qrels = read_qrels(folder / "qrels.tsv")
    else:
        if reach is None:
            raise SystemExit(f"--reach is needed for {name}.")
        corpus, folder = ("abstracts" if name in ("claim", "phrase") else name), reach / name
        rows, asked = read(folder / "corpus.jsonl"), read(folder / "queries.jsonl")
        qrels = read_qrels(folder / "qrels/test.tsv")
    texts = {str(row.get("id", row.get("_id"))): str(row.get("question", row.get("text"))) for row in asked}
    judged = [query for query in texts if query in qrels][: LIMITS.get(name)]
    passages = [Passage(str(row.get("id", row.get("_id"))), row["text"]) for row in rows]
    return Task(name, corpus, passages, {q: texts[q] for q in judged}, {q: qrels[q] for q in judged})


def open_index(task: Task, encoder: BiEncoder, work: Path) -> PassageIndex:
    folder = work / f"index-{encoder.content_hash[:8]}-{task.corpus}"
    if folder.exists():
        return PassageIndex.load(folder, encoder=encoder, verify="fast")
    index = PassageIndex.build(task.passages, encoder=encoder, show_progress=True)
    index.save(folder)
    return index


def search(index: PassageIndex, task: Task, first_stage: Any, k: int = 100) -> Scores:
    found = index.search_many(list(task.queries.values()), k, first_stage=first_stage)
    return {
        query: {candidate.passage.id: float(candidate.score or 0.0) for candidate in candidates}
        for query, candidates in zip(task.queries, found, strict=True)
    }


def logits_of(task: Task, lists: Sequence[Scores], reranker: BioReranker, name: str, work: Path) -> Scores:
    """Logits of every listed pair; those scored before come from the working folder."""
    cache = work / f"logits-{name}-{task.name}.json"
    known: Scores = json.loads(cache.read_text()) if cache.exists() else {}
    texts = {passage.id: passage for passage in task.passages}
    missing = {
        query: [
            texts[p]
            for p in dict.fromkeys(p for scores in lists for p in scores[query])
            if p not in known.get(query, {})
        ]
        for query in task.queries
    }
    requests = [(task.queries[query], passages) for query, passages in missing.items() if passages]
    rankings = iter(reranker.rank_many(requests, show_progress=True)) if requests else iter(())
    for query, passages in missing.items():
        if passages:
            known.setdefault(query, {}).update({ranked.passage.id: ranked.logit for ranked in next(rankings)})
    cache.write_text(json.dumps(known))
    return known


def fused(found: Scores, logits: Scores, weight: float | None) -> dict[str, list[str]]:
    """Order candidates as :meth:`BioReranker.rank` does with ``fusion=weight``."""
    return {
        query: sorted(scores, key=lambda p: -(logits[query][p] + (weight or 0.0) * scores[p]))
        for query, scores in found.items()
    }


def ndcg(order: dict[str, list[str]], task: Task) -> float:
    return measure_run(run_from_order(order), task.qrels, ["nDCG@10"]).means["nDCG@10"]


def fit(args: argparse.Namespace, encoder: BiEncoder, reranker: BioReranker) -> None:
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
        write(args.out, result)
        return
    index.hybrid = Hybrid("weighted", lexical_weight=args.lexical_weight or lexical_weight)
    found = {stage: search(index, task, stage) for stage in FIRST_STAGES}
    logits = logits_of(task, list(found.values()), reranker, args.name, args.work)
    for stage, scores in found.items():
        grid = LEXICAL_FUSION if stage == "lexical" else WEIGHTS
        values = {weight: round(ndcg(fused(scores, logits, weight), task), 4) for weight in grid}
        result[stage] = {"weights": values, "good": good_weights(values)}
        print(stage, json.dumps(result[stage]))
    write(args.out, result)


def write(path: Path | None, result: Mapping[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def good_weights(values: Mapping[float, float]) -> list[float]:
    """Return the weights within 0.002 of the best: among them, what measures best over all dev sets is the default."""
    return [weight for weight, value in values.items() if value >= max(values.values()) - 0.002]


def measure(args: argparse.Namespace, encoder: BiEncoder, reranker: BioReranker) -> None:
    name = encoder.model_id
    keys = {"lexical": "lexical", "dense": name, "hybrid": f"hybrid/{name}"}
    result: dict[str, Any] = {"encoder": name, "reranker": args.name, "candidates": 100, "sets": {}}
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
        write(args.out, result)
    if args.sentences:
        result["sets"]["indoc-dev"] = sentences(args.data, encoder, reranker)
        show("indoc-dev", result["sets"]["indoc-dev"])
        write(args.out, result)


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
    questions = {row["id"]: row["question"] for row in read(data / "bioasq/dev.jsonl.gz")}
    queries: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    passages: dict[str, list[Passage]] = {}
    for number, row in enumerate(read(data / "bioasq/indoc.dev.jsonl.gz")):
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["fit", "measure"])
    parser.add_argument("--data", type=Path, required=True, help="folder with bioasq/, pubmedqa/, …")
    parser.add_argument("--reach", type=Path, help="folder that recipe_data.py wrote")
    parser.add_argument("--work", type=Path, required=True, help="working folder: indexes and logits")
    parser.add_argument("--encoder", help="bi-encoder; default: the embedded one")
    parser.add_argument("--reranker", help="reranker; default: the embedded one")
    parser.add_argument("--name", default="embedded", help="name of the reranker in the working folder and the result")
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--all-stages", nargs="*", default=["bioasq-dev"], help="sets reranked after every first stage")
    parser.add_argument("--sentences", action="store_true", help="also sentences inside an abstract")
    parser.add_argument("--lexical-weight", type=float, help="fit: take this weight of BM25 instead of the best")
    parser.add_argument("--first-stage-only", action="store_true", help="fit: without the reranker's weights")
    parser.add_argument("--out", type=Path, help="JSON to write")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    args.work.mkdir(parents=True, exist_ok=True)
    encoder = BiEncoder(args.encoder)
    with BioReranker(args.reranker) as reranker:
        {"fit": fit, "measure": measure}[args.what](args, encoder, reranker)


if __name__ == "__main__":
    main()
