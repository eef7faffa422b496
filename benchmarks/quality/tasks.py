"""Judged collections, what first stages find in them, and logits, kept in a working folder."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.common import parser_of, read_rows
from biorerank_plugins import BioReranker, Passage, PassageIndex
from biorerank_plugins.evaluation import measure_run, run_from_order
from biorerank_plugins.first_stage import BiEncoder
from biorerank_plugins.readers import read_qrels

FIRST_STAGES = ("lexical", "dense", "hybrid")
WEIGHTS = (0, 0.5, 1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 20, 25, 30, 40, 60)
FOLDERS = {
    "pubmedqa": "pubmedqa",
    "liveqa": "liveqa_medquad",
    "covidqa": "covidqa_lit",
    "check-covid": "check_covid",
    "cystic-fibrosis": "cystic_fibrosis",
    "trec-covid": "trec_covid_part",
}
"""Collections that lie beside BioASQ; nothing was ever trained on the last three."""
Part = Literal["dev", "report"]
Scores = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Task:
    """A judged collection."""

    name: str
    corpus: str
    passages: Sequence[Passage]
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]


def part_of(query: str) -> Part:
    """Return what a question is for: two thirds choose, a third is looked at once for each released model."""
    digest = hashlib.sha1(f"report {query}".encode(), usedforsecurity=False).hexdigest()
    return "report" if int(digest, 16) % 3 == 0 else "dev"


def read_task(name: str, data: Path, reach: Path | None, part: Part | None = None) -> Task:
    """Read a collection with its judged questions, all of them or those of a part."""
    if name.startswith("bioasq-"):
        split = name.removeprefix("bioasq-")
        corpus, folder = "bioasq", data / "bioasq"
        rows, asked = read_rows(folder / "corpus.jsonl.gz"), read_rows(folder / f"{split}.jsonl.gz")
        qrels = read_qrels(folder / f"qrels.{split}.tsv")
    elif name in FOLDERS:
        corpus, folder = name, data / FOLDERS[name]
        rows, asked = read_rows(folder / "corpus.jsonl.gz"), read_rows(folder / "queries.jsonl.gz")
        qrels = read_qrels(folder / "qrels.tsv")
    else:
        if reach is None:
            raise SystemExit(f"--reach is needed for {name}.")
        corpus, folder = ("abstracts" if name in ("claim", "phrase") else name), reach / name
        rows, asked = read_rows(folder / "corpus.jsonl"), read_rows(folder / "queries.jsonl")
        qrels = read_qrels(folder / "qrels/test.tsv")
    texts = {_name(row): str(row.get("question", row.get("text"))) for row in asked}
    judged = [query for query in texts if query in qrels and part in (None, part_of(query))]
    passages = [
        Passage(_name(row), row["text"], title=row.get("title") or None, metadata=_metadata(row)) for row in rows
    ]
    return Task(name, corpus, passages, {q: texts[q] for q in judged}, {q: qrels[q] for q in judged})


def _name(row: Mapping[str, Any]) -> str:
    return str(row.get("id", row.get("_id")))


def _metadata(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"document": row["document"]} if row.get("document") else {}


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


def ordered(found: Scores, value: Callable[[str, str, int], float]) -> dict[str, list[str]]:
    """Order candidates by a value of query, passage and rank; equal ones stay as they are."""
    order = {}
    for query, scores in found.items():
        values = {p: value(query, p, rank) for rank, p in enumerate(scores, 1)}
        order[query] = sorted(scores, key=lambda p: -values[p])
    return order


def fused(found: Scores, logits: Scores, weight: float | None) -> dict[str, list[str]]:
    """Order candidates as :meth:`BioReranker.rank` does with ``fusion=weight``."""
    return ordered(found, lambda query, p, _: logits[query][p] + (weight or 0.0) * found[query][p])


def joined(sentences: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """Return sentences as one text, and where each stands in it."""
    ends = np.cumsum([len(one) + 1 for one in sentences])
    spans = [(int(end) - 1 - len(one), int(end) - 1) for one, end in zip(sentences, ends, strict=True)]
    return " ".join(sentences), spans


def ndcg(order: dict[str, list[str]], task: Task) -> float:
    return measure_run(run_from_order(order), task.qrels, ["nDCG@10"]).means["nDCG@10"]


def parser_for(documentation: str | None) -> argparse.ArgumentParser:
    """Return a parser of the options that fitting and measuring share."""
    parser = parser_of(documentation)
    parser.add_argument("--data", type=Path, required=True, help="folder with bioasq/, pubmedqa/, …")
    parser.add_argument("--work", type=Path, required=True, help="working folder: indexes and logits")
    parser.add_argument("--encoder", help="bi-encoder; default: the embedded one")
    parser.add_argument("--reranker", help="reranker; default: the embedded one")
    parser.add_argument("--name", default="embedded", help="name of the reranker in the working folder and the result")
    parser.add_argument("--out", type=Path, help="JSON to write")
    return parser
