"""Parts of the GPU benchmark that are about values; each returns plain JSON types."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from benchmarks.common import DEMO
from benchmarks.speed.gpu_common import Bench, name_of, random_pairs
from biorerank_plugins.readers import read_passages, read_queries
from biorerank_plugins.runtime.tokens import EncodedPair

_BATCH = 96


def quality(bench: Bench) -> list[dict[str, Any]]:
    """Logits, order and nDCG@10 of each precision and variant against fp32, on the demo collection."""
    folder = bench.embedded
    if folder is None:
        raise RuntimeError("the embedded reranker is not here; its weights are what quality is measured with")
    pairs, relevance = _demo(bench)
    exact = _logits(bench.backend(folder, torch.float32, "padded"), pairs)
    rows = [{"dtype": "float32", "variant": "padded", "ndcg_at_10": _ndcg(exact, relevance)}]
    variants = ["padded", "kernels", "graphs", "fused"] if bench.device.type == "cuda" else ["padded", "kernels"]
    for dtype in bench.halves:
        for variant in variants:
            given = _logits(bench.backend(folder, dtype, variant), pairs)
            rows.append(
                {
                    "dtype": name_of(dtype),
                    "variant": variant,
                    "ndcg_at_10": _ndcg(given, relevance),
                    "largest_difference": round(float(np.abs(given - exact).max()), 5),
                    "mean_difference": round(float(np.abs(given - exact).mean()), 5),
                    "same_top_10": round(_same_top(given, exact, relevance.shape), 4),
                }
            )
    return rows


def neighbours(bench: Bench) -> list[dict[str, Any]]:
    """How much a logit moves when other pairs are beside it, or none."""
    folder = bench.embedded or bench.folder(next(iter(bench.sizes.shapes)))
    draw = np.random.default_rng(0)
    pairs = random_pairs(draw.integers(20, 200, 4 * bench.sizes.candidates).tolist(), words=1_000)
    some, rows = pairs[: bench.sizes.candidates], []
    variants = ("padded", "kernels", "graphs", "fused") if bench.device.type == "cuda" else ("padded", "kernels")
    for variant in variants:
        backend = bench.backend(folder, bench.halves[0], variant)
        together = backend.forward(some)
        others = backend.forward(pairs)[: len(some)]
        alone = np.concatenate([backend.forward([pair]) for pair in some])
        again = backend.forward(some)
        rows.append(
            {
                "variant": variant,
                "dtype": name_of(bench.halves[0]),
                "alone": round(float(np.abs(alone - together).max()), 6),
                "beside_others": round(float(np.abs(others - together).max()), 6),
                "again": round(float(np.abs(again - together).max()), 6),
                "spread_of_logits": round(float(together.std()), 4),
            }
        )
    return rows


def _demo(bench: Bench) -> tuple[list[EncodedPair], np.ndarray]:
    """Every passage for every question: pairs, and relevance [questions, passages]."""
    folder = DEMO
    passages = list(read_passages(folder / "corpus.jsonl"))
    queries = list(read_queries(folder / "queries.jsonl"))[: bench.sizes.questions]
    if bench.device.type == "cpu":
        passages = passages[:5]
    relevance = np.zeros((len(queries), len(passages)))
    rows = {query.id: row for row, query in enumerate(queries)}
    columns = {passage.id: column for column, passage in enumerate(passages)}
    for file in sorted((folder / "qrels").iterdir()):
        for line in file.read_text(encoding="utf-8").splitlines()[1:]:
            query, passage, grade = line.split("\t")
            if query in rows and passage in columns:
                relevance[rows[query], columns[passage]] = float(grade)
    texts = [(query.text, passage.text) for query in queries for passage in passages]
    return bench.tokenizer().encode(texts), relevance


def _logits(backend: Any, pairs: list[EncodedPair]) -> np.ndarray:
    return np.concatenate([backend.forward(pairs[first : first + _BATCH]) for first in range(0, len(pairs), _BATCH)])


def _ndcg(logits: np.ndarray, relevance: np.ndarray) -> float | None:
    values = []
    for scores, grades in zip(logits.reshape(relevance.shape), relevance, strict=True):
        best = _gain(np.sort(grades)[::-1])
        if best:
            values.append(_gain(grades[np.argsort(-scores, kind="stable")]) / best)
    return round(float(np.mean(values)), 5) if values else None


def _gain(grades: np.ndarray) -> float:
    return float(sum(grade / math.log2(rank + 2) for rank, grade in enumerate(grades[:10])))


def _same_top(given: np.ndarray, exact: np.ndarray, shape: tuple[int, ...]) -> float:
    """Share of the ten best passages of each question that are the same."""
    tops = [np.argsort(-logits.reshape(shape), axis=1, kind="stable")[:, :10] for logits in (given, exact)]
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(*tops, strict=True)]))
