"""One search over several indexes at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from biorerank_plugins.first_stage.protocol import FoundCandidates
from biorerank_plugins.passages import Candidate, Passage
from biorerank_plugins.scale.merging import Piece, merge, search_contents

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.arguments import FirstStage
    from biorerank_plugins.first_stage.filter_conditions import SqlCondition
    from biorerank_plugins.first_stage.fusion import Hybrid
    from biorerank_plugins.first_stage.hybrid import Found
    from biorerank_plugins.first_stage.index import PassageIndex
    from biorerank_plugins.first_stage.vectors import FloatArray
    from biorerank_plugins.scale.side_by_side import SideBySide

__all__ = ["search_shards"]


def search_shards(
    shards: SideBySide,
    first_stage: FirstStage,
    queries: Sequence[str],
    vectors: FloatArray,
    k: int,
    hybrid: Hybrid,
    condition: SqlCondition | None,
    scores_are: str | None,
) -> list[FoundCandidates]:
    """Return what one index of all the shards' passages would find for each query.

    :param shards: the indexes.
    :param first_stage: how to search.
    :param queries: texts.
    :param vectors: ``[len(queries), dimension]`` their vectors.
    :param k: number of passages for each query.
    :param hybrid: how the two sides are fused.
    :param condition: which passages may be found; ``None`` for all.
    :param scores_are: name of the scores, for the candidates.
    :raises PassageIndexError: if a shard does not answer and partial results are not wanted, or none answers.
    """

    def search_one(index: PassageIndex) -> list[Piece]:
        with index.reading() as contents:
            allowed = None if condition is None else contents.catalog.rows(condition)
            return search_contents(contents, first_stage, queries, vectors, k, hybrid, allowed)

    pieces, missing = shards.ask(search_one)
    found = [
        merge([piece[place] for piece in pieces.values()], first_stage, k, hybrid) for place in range(len(queries))
    ]
    rows = sorted({row for _, best in found for row in best.tolist()})
    fetched, gone = shards.ask(lambda index: _passages(index, rows), among=tuple(pieces))
    passages = {row: passage for part in fetched.values() for row, passage in part.items()}
    lost = tuple(name for name in shards.shards if name in missing or name in gone)
    return [FoundCandidates(_candidates(best, passages, scores_are), lost) for best in found]


def _passages(index: PassageIndex, rows: list[int]) -> dict[int, Passage]:
    with index.reading() as contents:
        return contents.catalog.fetch(rows)


def _candidates(found: Found, passages: dict[int, Passage], scores_are: str | None) -> list[Candidate]:
    scores, rows = found
    kept = [(score, row) for score, row in zip(scores.tolist(), rows.tolist(), strict=True) if row in passages]
    return [Candidate(passages[row], score, rank, scores_are) for rank, (score, row) in enumerate(kept, start=1)]
