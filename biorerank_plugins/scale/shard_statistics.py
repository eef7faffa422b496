"""BM25 over shards: each weighs words by the statistics of the whole collection."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from biorerank_plugins.first_stage.lexical import LexicalIndex, lexical_settings


@dataclass(frozen=True)
class Statistics:
    """What BM25 knows of a collection as a whole.

    :param texts: number of texts.
    :param tokens: number of terms in all of them, repeated ones included.
    :param frequencies: for every term the number of texts that have it.
    """

    texts: int
    tokens: int
    frequencies: Counter[str]


def statistics_of(parts: Iterable[LexicalIndex]) -> Statistics:
    """Return the statistics of the collection that these indexes hold together."""
    texts, tokens = 0, 0
    frequencies: Counter[str] = Counter()
    for part in parts:
        arrays = part.to_arrays()
        counts = np.diff(_matrix(arrays)[0]).tolist()
        frequencies.update(dict(zip(_terms(arrays), counts, strict=True)))
        texts, tokens = texts + len(part), tokens + len(arrays["tokens"])
    return Statistics(texts, tokens, frequencies)


def with_statistics(lexical: LexicalIndex, whole: Statistics) -> LexicalIndex:
    """Return the same index with the scores that its texts have in the whole collection.

    :param lexical: BM25 over a part of it.
    :param whole: statistics of all of it, this part included.
    """
    arrays = lexical.to_arrays()
    starts, texts, counts = _matrix(arrays)
    settings = lexical_settings()
    k1, b = settings["k1"], settings["b"]
    mean = whole.tokens / whole.texts if whole.tokens else 1.0
    norms = k1 * ((1 - b) + b * np.diff(arrays["offsets"]) / mean)
    present = (whole.frequencies[term] for term in _terms(arrays))
    # float32, as bm25s keeps them, so that the products are those of one index.
    idf = np.array([math.log(1 + (whole.texts - n + 0.5) / (n + 0.5)) for n in present], dtype=np.float32)
    scores = np.repeat(idf, np.diff(starts)) * (counts / (counts + norms[texts]))
    data = scores.astype(arrays["data"].dtype)
    indices, indptr = texts.astype(arrays["indices"].dtype), starts.astype(arrays["indptr"].dtype)
    return LexicalIndex.from_arrays({**arrays, "data": data, "indices": indices, "indptr": indptr})


def _terms(arrays: dict[str, np.ndarray[Any, Any]]) -> list[str]:
    joined = arrays["terms"].tobytes().decode()
    return joined.split("\n") if joined else []


def _matrix(arrays: dict[str, np.ndarray[Any, Any]]) -> tuple[Any, Any, Any]:
    """Return by term: where its texts begin, the texts (by position), and how often each has it."""
    lengths = np.diff(arrays["offsets"])
    n_texts, n_terms = len(lengths), len(_terms(arrays))
    keys = arrays["tokens"].astype(np.int64) * max(1, n_texts) + np.repeat(np.arange(n_texts), lengths)
    found, counts = np.unique(keys, return_counts=True)
    terms, texts = np.divmod(found, max(1, n_texts))
    starts = np.concatenate([[0], np.cumsum(np.bincount(terms, minlength=n_terms)[:n_terms])])
    return starts, texts, counts
