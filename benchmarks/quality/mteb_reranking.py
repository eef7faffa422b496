"""Measure both embedded models with mteb's reranking evaluation, beside our own measurement of the same candidates.

    pip install mteb
    python -m benchmarks.quality.mteb_reranking --data "$BIORERANK_DATA" --work build/mteb \\
        --out benchmarks/results/mteb.json

The task is made from a collection that lies in the data folder: the first development questions, and for each the
passages that the embedded first stage finds. mteb loads the models as plain sentence-transformers does, in fp32, and
orders by them alone: nothing of this package takes part in its figures.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

from benchmarks.common import machine, parser_of, write_result
from benchmarks.quality.tasks import Task, open_index, read_task, search
from biorerank_plugins import BioReranker, models
from biorerank_plugins.evaluation import measure_run, run_from_order
from biorerank_plugins.first_stage import BiEncoder

RESULT = "mteb.json"
KEYS = ("set", "queries", "candidates", "first_stage", "main_score", "mteb", "ours", "seconds", "machine")

MAIN_SCORE = "ndcg_at_10"
SHOWN = (MAIN_SCORE, "map_at_10", "mrr_at_10", "recall_at_10")


def task_of(task: Task, top_ranked: dict[str, list[str]]) -> Any:
    """Return a collection with its candidates as a reranking task of mteb."""
    from datasets import Dataset
    from mteb.abstasks import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    rows = [{"id": one.id, "title": one.title or "", "text": one.text or "."} for one in task.passages]
    asked = [{"id": query, "text": text} for query, text in task.queries.items()]
    split = {
        "corpus": Dataset.from_list(rows),
        "queries": Dataset.from_list(asked),
        "relevant_docs": {query: dict(task.qrels[query]) for query in task.queries},
        "top_ranked": top_ranked,
    }

    class Reranking(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name=f"Biorerank{task.name.title().replace('-', '')}Reranking",
            description="Candidates of a first stage, to be reranked.",
            dataset={"path": f"local/{task.name}", "revision": "local"},
            type="Reranking",
            category="t2t",
            eval_langs=["eng-Latn"],
            main_score=MAIN_SCORE,
        )

        def load_data(self, *_: Any, **__: Any) -> None:
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    return Reranking()


def by_mteb(model: Any, task: Any) -> dict[str, float]:
    """Return what mteb measures."""
    import mteb

    found = mteb.evaluate(model, task, cache=None, co2_tracker=False, show_progress_bar=False)
    (scores,) = found.task_results[0].scores["test"]
    return {name: round(float(scores[name]), 4) for name in SHOWN}


def by_us(task: Task, order: dict[str, list[str]]) -> float:
    """Return our nDCG@10 of an order."""
    return round(measure_run(run_from_order(order), task.qrels, ["nDCG@10"]).means["nDCG@10"], 4)


def reranked(task: Task, top_ranked: dict[str, list[str]], reranker: BioReranker) -> dict[str, list[str]]:
    """Return the candidates in the order of the logits alone."""
    texts = {one.id: one for one in task.passages}
    requests = [(task.queries[query], [texts[one] for one in ids]) for query, ids in top_ranked.items()]
    rankings = reranker.rank_many(requests, fusion=None)
    return {q: [line.passage.id for line in ranking] for q, ranking in zip(top_ranked, rankings, strict=True)}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    from sentence_transformers import CrossEncoder, SentenceTransformer

    whole = read_task(args.set, args.data, None, part="dev")
    queries = dict(list(whole.queries.items())[: args.queries])
    task = Task(whole.name, whole.corpus, whole.passages, queries, {query: whole.qrels[query] for query in queries})
    with open_index(task, BiEncoder(), args.work) as index:
        found = search(index, task, "hybrid", args.candidates)
    top_ranked = {query: list(scores) for query, scores in found.items()}
    theirs = task_of(task, top_ranked)
    result: dict[str, Any] = {
        "set": task.name,
        "queries": len(task.queries),
        "candidates": args.candidates,
        "first_stage": f"hybrid/{models.DEFAULT_ENCODER}",
        "main_score": MAIN_SCORE,
        "mteb": {},
        "ours": {"first stage": by_us(task, top_ranked)},
        "seconds": {},
        "machine": machine(packages=("mteb", "sentence-transformers")),
    }
    for name, kind in ((models.DEFAULT_RERANKER, CrossEncoder), (models.DEFAULT_ENCODER, SentenceTransformer)):
        started = time.perf_counter()
        result["mteb"][name] = by_mteb(kind(os.fspath(models.path(name)), device="cpu"), theirs)
        result["seconds"][name] = round(time.perf_counter() - started, 1)
    with BioReranker(dtype="float32", device="cpu") as reranker:
        result["ours"][models.DEFAULT_RERANKER] = by_us(task, reranked(task, top_ranked, reranker))
    return result


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with bioasq/, pubmedqa/, …")
    parser.add_argument("--work", type=Path, required=True, help="working folder: the index")
    parser.add_argument("--set", default="pubmedqa", help="a collection of benchmarks/quality/tasks.py")
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--candidates", type=int, default=50)
    parser.add_argument("--out", type=Path, help="JSON to write")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    result = measure(args)
    write_result(args.out, result, KEYS)
    for part in ("mteb", "ours", "seconds"):
        print(part, result[part])


if __name__ == "__main__":
    main()
