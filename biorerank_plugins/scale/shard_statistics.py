"""BM25 over shards: each weighs words by the statistics of the whole collection."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from biorerank_plugins.first_stage.lexical import K1, B, LexicalIndex, terms_of


@dataclass(frozen=True)
class Statistics:
    """What BM25 knows of a collection as a whole: how many texts and terms it has, and how many texts each term."""

    texts: int
    tokens: int
    frequencies: Counter[str]


def statistics_of(parts: Iterable[LexicalIndex]) -> Statistics:
    """Return the statistics of the collection that these indexes hold together."""
    texts, tokens = 0, 0
    frequencies: Counter[str] = Counter()
    for part in parts:
        arrays = part.to_arrays()
        terms, starts, _, _ = _matrix(arrays)
        frequencies.update(dict(zip(terms, np.diff(starts).tolist(), strict=True)))
        texts, tokens = texts + len(part), tokens + len(arrays["tokens"])
    return Statistics(texts, tokens, frequencies)


def with_statistics(lexical: LexicalIndex, whole: Statistics) -> LexicalIndex:
    """Return the index of a part with the scores that its texts have in the whole collection."""
    arrays = lexical.to_arrays()
    terms, starts, texts, counts = _matrix(arrays)
    mean = whole.tokens / whole.texts if whole.tokens else 1.0
    norms = K1 * ((1 - B) + B * np.diff(arrays["offsets"]) / mean)
    present = (whole.frequencies[term] for term in terms)
    # float32, as bm25s keeps them, so that the products are those of one index.
    idf = np.array([math.log(1 + (whole.texts - n + 0.5) / (n + 0.5)) for n in present], dtype=np.float32)
    scores = np.repeat(idf, np.diff(starts)) * (counts / (counts + norms[texts]))
    data = scores.astype(arrays["data"].dtype)
    indices, indptr = texts.astype(arrays["indices"].dtype), starts.astype(arrays["indptr"].dtype)
    return LexicalIndex.from_arrays({**arrays, "data": data, "indices": indices, "indptr": indptr})


def _matrix(arrays: dict[str, np.ndarray[Any, Any]]) -> tuple[list[str], Any, Any, Any]:
    """Return the terms, and by term: where its texts begin, the texts (by position), and how often each has it."""
    terms, lengths = terms_of(arrays), np.diff(arrays["offsets"])
    n_texts = max(1, len(lengths))
    keys = arrays["tokens"].astype(np.int64) * n_texts + np.repeat(np.arange(len(lengths)), lengths)
    found, counts = np.unique(keys, return_counts=True)
    numbers, texts = np.divmod(found, n_texts)
    starts = np.concatenate([[0], np.cumsum(np.bincount(numbers, minlength=len(terms)))])
    return terms, starts, texts, counts
