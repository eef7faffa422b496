"""The two sides of an index, vectors and BM25, searched alone or together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from biorerank_plugins.first_stage.arguments import FirstStage
from biorerank_plugins.first_stage.fusion import Hybrid, reciprocal_rank_fusion, weighted_sum
from biorerank_plugins.first_stage.lexical import LexicalIndex
from biorerank_plugins.first_stage.vectors import FloatArray, RowArray, VectorStore

__all__ = ["NOT_EMBEDDED", "Found", "Sides"]

Found: TypeAlias = tuple[np.ndarray[Any, np.dtype[np.floating[Any]]], RowArray]
"""Scores and row numbers, best first."""

NOT_EMBEDDED: FloatArray = np.empty((0, 0), dtype=np.float32)
"""Instead of vectors that nobody looks at."""


@dataclass(frozen=True)
class Sides:
    """The two sides, with the same rows.

    :param vectors: the dense side.
    :param lexical: the lexical side, ``None`` if there is none.
    :param hybrid: how to fuse them.
    """

    vectors: VectorStore
    lexical: LexicalIndex | None
    hybrid: Hybrid

    def search(
        self,
        first_stage: FirstStage,
        queries: Sequence[str],
        embedded: FloatArray,
        k: int,
        allowed: RowArray | None = None,
    ) -> Sequence[Found]:
        """Return the best rows for each query, by score, then by row.

        :param first_stage: what :func:`.arguments.check_first_stage` returned.
        :param queries: texts.
        :param embedded: ``[len(queries), dimension]`` their vectors; :data:`NOT_EMBEDDED` will do for ``"lexical"``.
        :param k: number of results for a query.
        :param allowed: rows that may be found, ascending; ``None`` for all.
        """
        if self.lexical is None or first_stage == "dense":
            return self.vectors.search(embedded, k, allowed)
        if first_stage == "lexical":
            return self.lexical.search_many(queries, k, allowed)
        dense = self.vectors.search(embedded, max(k, self.hybrid.depth), allowed)
        return [
            self._fused(query, vector, found, self.lexical, k, allowed)
            for query, vector, found in zip(queries, embedded, dense, strict=True)
        ]

    def _fused(
        self,
        query: str,
        vector: FloatArray,
        found: Found,
        lexical: LexicalIndex,
        k: int,
        allowed: RowArray | None,
    ) -> Found:
        """Fuse what the dense side found for a query with what the lexical side finds."""
        matches = lexical.match(query)
        _, lexical_rows = matches.best(max(k, self.hybrid.depth), allowed)
        if self.hybrid.lexical_weight is None:
            scores, rows = _by_rank(found[1], lexical_rows)
        else:
            missing = np.setdiff1d(lexical_rows, found[1])
            products, rows = _joined(found, self._inner_products(vector, missing))
            scores = weighted_sum(products, matches.of(rows), self.hybrid.lexical_weight)
        order = np.lexsort((rows, -scores))[:k]
        return scores[order], rows[order]

    def _inner_products(self, query: FloatArray, rows: RowArray) -> Found:
        """Return the scores that the dense side gives to these rows: a search among them alone."""
        return self.vectors.search(query[np.newaxis], len(rows), rows)[0]


def _by_rank(dense_rows: RowArray, lexical_rows: RowArray) -> Found:
    scores = reciprocal_rank_fusion([dense_rows.tolist(), lexical_rows.tolist()])
    return np.fromiter(scores.values(), np.float64, len(scores)), np.fromiter(scores, np.int64, len(scores))


def _joined(first: Found, second: Found) -> Found:
    return np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]])
