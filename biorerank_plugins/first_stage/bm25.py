"""BM25 itself: the score of every term in every text, computed by ``bm25s``."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from biorerank_plugins._common.progress import without_bars

if TYPE_CHECKING:
    from numpy.typing import NDArray

K1 = 0.9  # Anserini's values, chosen for short passages
B = 0.4


def scored(tokens: NDArray[np.int32], offsets: NDArray[np.int64], n_terms: int) -> Any:
    """Compute the score of every term in every text."""
    if not len(tokens):  # bm25s divides by the mean length
        return scorer(
            {
                "data": np.empty(0, dtype=np.float32),
                "indices": np.empty(0, dtype=np.int32),
                "indptr": np.zeros(n_terms + 1, dtype=np.int64),
            },
            len(offsets) - 1,
        )
    flat = tokens.tolist()
    texts = [flat[start:end] for start, end in pairwise(offsets.tolist())]
    scores = scorer({}, 0).build_index_from_ids(list(range(n_terms)), texts, show_progress=False)
    return scorer(scores, len(texts))


def scorer(scores: dict[str, Any], n_texts: int) -> Any:
    """Return a ``bm25s.BM25`` that has these scores, as its own ``load`` makes one.

    Its methods ``index`` and ``retrieve`` are left aside: they log below the level that an application asked for,
    fail or warn on texts and queries without words, and leave the order of ties open.
    """
    with without_bars("DISABLE_TQDM"):
        from bm25s import BM25

    bm25 = BM25(k1=K1, b=B, method="lucene")
    bm25.scores = {**scores, "num_docs": n_texts}
    bm25.nonoccurrence_array = None
    return bm25
