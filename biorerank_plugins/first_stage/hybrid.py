"""The two sides of an index, vectors and BM25, searched alone or together; of one index, or of several as if of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from biorerank_plugins.first_stage.arguments import FirstStage
from biorerank_plugins.first_stage.fusion import Hybrid, reciprocal_rank_fusion, weighted_sum
from biorerank_plugins.first_stage.vectors import FloatArray, RowArray

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.lexical import Matches
    from biorerank_plugins.first_stage.persistence import Contents

Found: TypeAlias = tuple[np.ndarray[Any, np.dtype[np.floating[Any]]], RowArray]
"""Scores and row numbers, best first."""

NOT_EMBEDDED: FloatArray = np.empty((0, 0), dtype=np.float32)
"""Instead of vectors that nobody looks at."""

_NOTHING: Found = (np.empty(0, np.float32), np.empty(0, np.int64))


@dataclass(frozen=True)
class Piece:
    """What one index, or one shard of it, says to one query.

    :param dense: inner products and rows, best first.
    :param lexical: BM25 scores and rows, best first.
    :param either: rows of either, ascending, and the inner product and the BM25 score of each; only for scores that
        are fused by weight.
    """

    dense: Found = _NOTHING
    lexical: Found = _NOTHING
    either: tuple[RowArray, FloatArray, FloatArray] | None = None


def search_contents(
    contents: Contents,
    first_stage: FirstStage,
    queries: Sequence[str],
    embedded: FloatArray,
    k: int,
    hybrid: Hybrid,
    allowed: RowArray | None,
    other_forms: Sequence[str],
) -> list[Piece]:
    """Search one index, or one shard of it.

    :param contents: what it holds.
    :param first_stage: how to search.
    :param queries: texts.
    :param embedded: ``[len(queries), dimension]`` their vectors; :data:`NOT_EMBEDDED` will do for ``"lexical"``.
    :param k: number of results of the whole collection for a query.
    :param hybrid: how the two sides will be fused.
    :param allowed: rows that may be found, ascending; ``None`` for all.
    :param other_forms: of each query the other forms of its abbreviations; for the lexical side.
    """
    if first_stage == "lexical":
        assert contents.lexical is not None  # checked by the caller
        found = contents.lexical.search_many(queries, k, allowed, other_forms)
        return [Piece(lexical=one) for one in found]
    if first_stage == "dense":
        found = contents.vectors.search(embedded, k, allowed)
        return [Piece(dense=one) for one in found]
    depth = max(k, hybrid.depth)
    assert contents.lexical is not None
    dense = contents.vectors.search(embedded, depth, allowed)
    return [
        _both_sides(contents, contents.lexical.match(query, forms), vector, found, depth, hybrid, allowed)
        for query, forms, vector, found in zip(queries, other_forms, embedded, dense, strict=True)
    ]


def _both_sides(
    contents: Contents,
    matches: Matches,
    vector: FloatArray,
    dense: Found,
    depth: int,
    hybrid: Hybrid,
    allowed: RowArray | None,
) -> Piece:
    lexical = matches.best(depth, allowed)
    if hybrid.lexical_weight is None:  # ranks say it all
        return Piece(dense, lexical)
    missing = np.setdiff1d(lexical[1], dense[1])
    scores, rows = contents.vectors.search(vector[np.newaxis], len(missing), missing)[0] if len(missing) else _NOTHING
    every = np.concatenate([dense[1], rows])
    order = np.argsort(every)
    products = np.concatenate([dense[0], scores])[order]
    return Piece(dense, lexical, (every[order], products, matches.of(every[order])))


def merge(pieces: Sequence[Piece], first_stage: FirstStage, k: int, hybrid: Hybrid) -> Found:
    """Return the best rows for one query, by score, then by row.

    :param pieces: what each shard said, or the one index.
    :param first_stage: how they searched.
    :param k: number of results.
    :param hybrid: how the two sides are fused.
    """
    if first_stage == "dense":
        return _best([piece.dense for piece in pieces], k)
    if first_stage == "lexical":
        return _best([piece.lexical for piece in pieces], k)
    depth = max(k, hybrid.depth)
    dense, lexical = (_best([getattr(piece, side) for piece in pieces], depth) for side in ("dense", "lexical"))
    if hybrid.lexical_weight is None:
        fused = reciprocal_rank_fusion([dense[1].tolist(), lexical[1].tolist()])
        scores, rows = np.fromiter(fused.values(), np.float64, len(fused)), np.fromiter(fused, np.int64, len(fused))
    else:
        rows = np.union1d(dense[1], lexical[1])
        parts = zip(*(piece.either for piece in pieces if piece.either is not None), strict=True)
        every, products, words = map(np.concatenate, parts)
        places = np.argsort(every)[np.searchsorted(np.sort(every), rows)]
        scores = weighted_sum(products[places], words[places], hybrid.lexical_weight)
    return _best([(scores, rows)], k)


def _best(found: Sequence[Found], k: int) -> Found:
    if not found:
        return _NOTHING
    scores, rows = np.concatenate([one[0] for one in found]), np.concatenate([one[1] for one in found])
    order = np.lexsort((rows, -scores))[:k]
    return scores[order], rows[order]
