"""The two sides of an index, vectors and BM25, searched alone or together; of one index, or of several as if of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from biorerank_plugins._common.checks import check_query, whole_number
from biorerank_plugins.first_stage.arguments import FirstStage, check_first_stage, refuse_string
from biorerank_plugins.first_stage.embedding import embed_queries
from biorerank_plugins.first_stage.filter_conditions import SqlCondition
from biorerank_plugins.first_stage.filters import Filter, compile_filter
from biorerank_plugins.first_stage.fusion import Hybrid, reciprocal_rank_fusion, weighted_sum
from biorerank_plugins.first_stage.lexical import Matches
from biorerank_plugins.first_stage.persistence import Contents
from biorerank_plugins.first_stage.protocol import FoundCandidates, SearchableIndex
from biorerank_plugins.first_stage.vectors import FloatArray, Found, RowArray, best
from biorerank_plugins.passages import Candidate, Passage
from biorerank_plugins.text.abbreviations import Abbreviations

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


@dataclass(frozen=True)
class Asked:
    """Queries that were checked and embedded, and how to search for them.

    :param vectors: ``[len(queries), dimension]``; none where nobody looks at them.
    :param other_forms: of each query the other forms of its abbreviations.
    :param k: number of results of the whole collection for a query.
    """

    queries: Sequence[str]
    vectors: FloatArray
    other_forms: Sequence[str]
    k: int
    condition: SqlCondition | None
    first_stage: FirstStage
    hybrid: Hybrid

    @property
    def depth(self) -> int:
        """Number of results that each side of the hybrid gives."""
        return max(self.k, self.hybrid.depth)


def asked(
    index: SearchableIndex,
    hybrid: Hybrid,
    abbreviations: Abbreviations,
    queries: Sequence[str],
    k: int,
    filters: Filter | None,
    first_stage: FirstStage | None,
) -> Asked:
    """Check and embed queries for an index whose passages define these abbreviations."""
    k = whole_number("k", k)
    refuse_string(queries, "queries")
    texts = [check_query(query) for query in queries]
    condition = compile_filter(filters)
    chosen = check_first_stage(first_stage, has_lexical=index.lexical)
    other_forms = list(map(abbreviations.other_forms, texts))
    embedded = texts and chosen != "lexical"
    vectors = embed_queries(texts, index.encoder, other_forms) if embedded else np.empty((0, 0), dtype=np.float32)
    return Asked(texts, vectors, other_forms, k, condition, chosen, hybrid)


def search_contents(contents: Contents, asked: Asked) -> list[Piece]:
    """Return for each query what one index says, or one shard of it."""
    allowed = None if asked.condition is None else contents.catalog.rows(asked.condition)
    if asked.first_stage == "dense":
        return [Piece(dense=one) for one in contents.vectors.search(asked.vectors, asked.k, allowed)]
    assert contents.lexical is not None  # checked by the caller
    if asked.first_stage == "lexical":
        found = contents.lexical.search_many(asked.queries, asked.k, allowed, asked.other_forms)
        return [Piece(lexical=one) for one in found]
    matches = map(contents.lexical.match, asked.queries, asked.other_forms)
    dense = contents.vectors.search(asked.vectors, asked.depth, allowed)
    return [_both_sides(contents, asked, allowed, *one) for one in zip(matches, asked.vectors, dense, strict=True)]


def _both_sides(
    contents: Contents, asked: Asked, allowed: RowArray | None, matches: Matches, vector: FloatArray, dense: Found
) -> Piece:
    lexical = matches.best(asked.depth, allowed)
    if asked.hybrid.lexical_weight is None:  # ranks say it all
        return Piece(dense, lexical)
    missing = np.setdiff1d(lexical[1], dense[1])
    scores, rows = contents.vectors.search(vector[np.newaxis], len(missing), missing)[0] if len(missing) else _NOTHING
    every = np.concatenate([dense[1], rows])
    order = np.argsort(every)
    products = np.concatenate([dense[0], scores])[order]
    return Piece(dense, lexical, (every[order], products, matches.of(every[order])))


def merge(pieces: Sequence[Piece], asked: Asked) -> Found:
    """Return the best rows for one query, by score, then by row, of what each shard said, or the one index."""
    if asked.first_stage != "hybrid":
        return _best([getattr(piece, asked.first_stage) for piece in pieces], asked.k)
    dense, lexical = (_best([getattr(piece, side) for piece in pieces], asked.depth) for side in ("dense", "lexical"))
    if asked.hybrid.lexical_weight is None:
        fused = reciprocal_rank_fusion([dense[1].tolist(), lexical[1].tolist()])
        scores, rows = np.fromiter(fused.values(), np.float64, len(fused)), np.fromiter(fused, np.int64, len(fused))
    else:
        rows = np.union1d(dense[1], lexical[1])
        parts = zip(*(piece.either for piece in pieces if piece.either is not None), strict=True)
        every, products, words = map(np.concatenate, parts)
        places = np.argsort(every)[np.searchsorted(np.sort(every), rows)]
        scores = weighted_sum(products[places], words[places], asked.hybrid.lexical_weight)
    return best((scores, rows), asked.k)


def _best(found: Sequence[Found], k: int) -> Found:
    return best((np.concatenate([scores for scores, _ in found]), np.concatenate([rows for _, rows in found])), k)


def rows_in(found: Sequence[Found]) -> list[int]:
    """Return all rows that were found, each once, ascending."""
    return sorted({row for _, rows in found for row in rows.tolist()})


def candidates_of(
    found: Found, passages: Mapping[int, Passage], scores_are: str | None, missing_shards: tuple[str, ...] = ()
) -> FoundCandidates:
    """Return the passages that were found for one query; rows that are not among ``passages`` are left out.

    :param scores_are: what the scores are, see :class:`~biorerank_plugins.Candidate`.
    """
    kept = [(score, row) for score, row in zip(found[0].tolist(), found[1].tolist(), strict=True) if row in passages]
    return FoundCandidates(
        (Candidate(passages[row], score, rank, scores_are) for rank, (score, row) in enumerate(kept, start=1)),
        missing_shards,
    )
