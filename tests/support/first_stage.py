"""An encoder whose vectors can be recomputed by hand, and collections around it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from biorerank_plugins.passages import Passage

FACTORIES = ["Flat", "HNSW8", "HNSW8_SQ8", "IVF4,Flat", "IVF4,PQ4", "IVF4,PQ4,Refine(SQ8)"]


@cache  # collections repeat a few hundred words
def _vector_of(word: str, dimension: int) -> np.ndarray:
    digest = hashlib.sha256(word.encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big")).standard_normal(dimension)


class WordEncoder:
    """The vector of a text is the sum of fixed random vectors of its words, of length 1."""

    dimension = 16
    model_id = "words"

    def __init__(self, seed: str = "") -> None:
        self.seed = seed
        self.content_hash = f"hash{seed}"
        self.n_encoded = 0

    def _word(self, word: str) -> np.ndarray:
        return _vector_of(f"{self.seed}{word}", self.dimension)

    def vector(self, text: str) -> np.ndarray:
        total = np.sum([self._word(word) for word in text.split()], axis=0)
        return (total / np.linalg.norm(total)).astype(np.float32)

    def encode_queries(self, queries: Sequence[str]) -> np.ndarray:
        return np.stack([self.vector(query) for query in queries])

    def encode_passages(self, passages: Sequence[Passage]) -> np.ndarray:
        self.n_encoded += len(passages)
        return np.stack([self.vector(passage.text) for passage in passages])

    def config(self) -> dict[str, Any]:
        return {"type": "WordEncoder", "seed": self.seed}


def collection(count: int, *, start: int = 0) -> list[Passage]:
    """Passages of three words; every tenth repeats the text of the one before."""
    passages = []
    for number in range(start, start + count):
        source = number - 1 if number % 10 == 9 else number
        words = np.random.default_rng(source).integers(0, 500, size=3)
        metadata = {"year": 2000 + number % 25, "journal": f"J{number % 7}", "number": number}
        passages.append(Passage(f"p{number}", " ".join(f"w{word}" for word in words), f"title {number}", metadata))
    return passages


def exact_ranking(encoder: WordEncoder, query: str, passages: Sequence[Passage]) -> list[str]:
    """The slow way: every inner product, sorted by score and then by position."""
    wanted = encoder.vector(query).astype(np.float64)
    # Rounded, because equal texts must tie here as they do in FAISS.
    scores = [round(float(wanted @ encoder.vector(p.text).astype(np.float64)), 6) for p in passages]
    order = sorted(range(len(passages)), key=lambda position: (-scores[position], position))
    return [passages[position].id for position in order]
