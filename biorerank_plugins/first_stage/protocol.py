"""What a passage index asks of an encoder, and what everybody else asks of a passage index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from biorerank_plugins.passages import Candidate, Passage

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.arguments import FirstStage
    from biorerank_plugins.first_stage.filters import Filter
    from biorerank_plugins.first_stage.vectors import FloatArray


class Encoder(Protocol):
    """What a passage index needs; any object that has it can be the encoder."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""

    @property
    def model_id(self) -> str:
        """Name for messages and manifests."""

    @property
    def content_hash(self) -> str:
        """Changes whenever the same text would get another vector."""

    def encode_queries(self, queries: Sequence[str]) -> FloatArray:
        """Return ``[len(queries), dimension]`` vectors."""

    def encode_passages(self, passages: Sequence[Passage]) -> FloatArray:
        """Return ``[len(passages), dimension]`` vectors."""

    def config(self) -> dict[str, Any]:
        """Return what is needed to make the encoder again, as JSON types."""


class FoundCandidates(list[Candidate]):
    """What an index found for one query, best first.

    :param candidates: what was found.
    :param missing_shards: names of the parts of the index that did not answer.
    """

    def __init__(self, candidates: Iterable[Candidate] = (), missing_shards: tuple[str, ...] = ()) -> None:
        super().__init__(candidates)
        self.missing_shards = missing_shards


@runtime_checkable
class SearchableIndex(Protocol):
    """What can be searched: one :class:`~biorerank_plugins.PassageIndex`, or several that answer as one."""

    def search(
        self, query: str, k: int = 10, filters: Filter | None = None, first_stage: FirstStage | None = None
    ) -> FoundCandidates:
        """Return the best passages for a query.

        :param query: the question.
        :param k: number of passages; all there are if ``k`` is larger.
        :param filters: which passages may be found; see :mod:`biorerank_plugins.first_stage.filters`.
        :param first_stage: ``"hybrid"``, ``"dense"`` or ``"lexical"``; ``None`` is ``"hybrid"`` where the index has a
            lexical part, else ``"dense"``.
        :returns: ``min(k, number of allowed passages)`` candidates, fewer only for ``"lexical"``; best first, equal
            scores in insertion order.
        :raises ValueError: if the query is blank, ``k`` is no positive integer, or the filter is malformed.
        :raises PassageIndexError: if a lexical part is asked for and there is none.
        """
        return self.search_many([query], k, filters, first_stage)[0]

    def search_many(
        self, queries: Sequence[str], k: int = 10, filters: Filter | None = None, first_stage: FirstStage | None = None
    ) -> list[FoundCandidates]:
        """Return the best passages for each of several queries."""

    def get(self, id: str) -> Passage | None:
        """Return the passage with this id, or ``None``."""

    def passages(self) -> Iterator[Passage]:
        """Return all passages."""

    def scores_of(self, first_stage: FirstStage) -> str | None:
        """Return the name of a first stage's scores, ``None`` where no fusion weight can belong to them."""

    @property
    def encoder(self) -> Encoder:
        """The encoder of passages and queries."""

    @property
    def factory(self) -> str:
        """FAISS factory string."""

    @property
    def lexical(self) -> bool:
        """Whether the hybrid and the lexical first stage can be asked for."""

    @property
    def folder(self) -> Path | None:
        """Folder of a saved index."""

    def __len__(self) -> int: ...

    def __contains__(self, id_: object) -> bool:
        return isinstance(id_, str) and self.get(id_) is not None

    def close(self) -> None:
        """Release the index; closing twice is fine."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()
