"""ShardedIndex: one collection in several indexes, searched side by side."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Literal, Self

from biorerank_plugins._common.checks import whole_number
from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage import hybrid
from biorerank_plugins.first_stage.arguments import FirstStage
from biorerank_plugins.first_stage.changes import UpdateReport
from biorerank_plugins.first_stage.embedding import BATCH_SIZE
from biorerank_plugins.first_stage.factory import parse_factory
from biorerank_plugins.first_stage.filters import Filter
from biorerank_plugins.first_stage.fusion import Hybrid
from biorerank_plugins.first_stage.index import PassageIndex
from biorerank_plugins.first_stage.protocol import Encoder, FoundCandidates, SearchableIndex
from biorerank_plugins.first_stage.read_index import ReadWriteLock, index_again, saved_folder
from biorerank_plugins.passages import Deletion, Passage, PassageLike
from biorerank_plugins.scale.build import Engine, embedded, work_folder
from biorerank_plugins.scale.ray_engine import RayOptions
from biorerank_plugins.scale.shard_layout import read_layout, shard_of
from biorerank_plugins.scale.shard_writing import refuse_used, update_shards, write_shards
from biorerank_plugins.scale.side_by_side import OnLost, SideBySide, opened_shards, search_shards


class ShardedIndex(SearchableIndex):
    """One collection in several :class:`PassageIndex` folders, by a hash of the id; searched like one of them.

    With ``Flat`` the results are those of one index: words are weighed by the statistics of the whole collection, and
    the two sides of the hybrid are fused over all shards. :meth:`update` changes it durably, as it does one index.

    :param shards: the indexes by name; ``None`` for one that is lost.
    :param on_lost: what to do when a shard is lost, fails, or is too late: ``"error"``, or ``"partial"``, which
        returns what the others found, with the names of the missing ones in ``missing_shards``, and logs a warning.
    :param timeout: seconds that a shard may take; ``None`` for as long as it takes.
    :raises PassageIndexError: if a shard is lost and ``on_lost`` is ``"error"``, if all are, or if they do not belong
        together.

    >>> index = ShardedIndex.load("pubmed-shards", on_lost="partial", timeout=2.0)      # doctest: +SKIP
    >>> TwoStageSearch(index, BioReranker()).search("Does aspirin inhibit COX?")          # doctest: +SKIP
    """

    folder: Path | None = None
    """Folder it was loaded from."""

    def __init__(
        self, shards: dict[str, PassageIndex | None], *, on_lost: OnLost = "error", timeout: float | None = None
    ) -> None:
        self._side_by_side = SideBySide(shards, on_lost, timeout)
        self._searching = ReadWriteLock()
        self._changing = Lock()

    @classmethod
    def build(
        cls,
        passages: Iterable[PassageLike],
        folder: str | os.PathLike[str],
        *,
        shards: int,
        encoder: Encoder | None = None,
        factory: str = "Flat",
        lexical: bool = True,
        engine: Engine = "local",
        ray_options: RayOptions | None = None,
        on_duplicate: Literal["error", "skip"] = "error",
        show_progress: bool = False,
    ) -> Self:
        """Build a sharded index in a folder, on one machine or on Ray; repeat the call after it was killed.

        :param passages: as ``PassageIndex.build`` takes them.
        :param folder: a new folder.
        :param shards: number of shards; each should fit into the memory that will search it.
        :param encoder: as ``PassageIndex.build`` takes it.
        :param factory: type of every shard.
        :param lexical: whether there is a lexical part.
        :param engine: see :func:`~.build.build_index`.
        :param ray_options: see :func:`~.build.build_index`.
        :param on_duplicate: as ``PassageIndex.build`` takes it.
        :param show_progress: whether to show a progress bar.
        :raises PassageIndexError: if the folder holds something else, or a shard gets too few passages.
        """
        target = Path(folder).expanduser().absolute()
        kind, shards = parse_factory(factory), whole_number("shards", shards)
        refuse_used(target)
        embeddings, encoder = embedded(
            passages,
            work_folder(target),
            encoder,
            engine=engine,
            ray_options=ray_options,
            on_duplicate=on_duplicate,
            show_progress=show_progress,
        )
        write_shards(target, embeddings, encoder, shards=shards, factory=kind, lexical=lexical)
        return cls.load(target, encoder=encoder)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        encoder: Encoder | None = None,
        on_lost: OnLost = "error",
        timeout: float | None = None,
        verify: Literal["full", "fast"] = "full",
    ) -> Self:
        """Open a sharded index.

        :param folder: its folder.
        :param encoder: as ``PassageIndex.load`` takes it; all shards share it.
        :param on_lost: as the class takes it; a shard that is missing or damaged is a lost one.
        :param timeout: as the class takes it.
        :param verify: as ``PassageIndex.load`` takes it.
        :raises PassageIndexError: if there is no sharded index, or too much of it is lost.
        """
        path = Path(folder).expanduser().absolute()
        with opened_shards(path, encoder=encoder, on_lost=on_lost, verify=verify) as shards:
            loaded = cls(shards, on_lost=on_lost, timeout=timeout)
        loaded.folder = path
        return loaded

    def search_many(
        self, queries: Sequence[str], k: int = 10, filters: Filter | None = None, first_stage: FirstStage | None = None
    ) -> list[FoundCandidates]:
        """Return the best passages for each of several queries, as :meth:`PassageIndex.search_many` does.

        :raises PassageIndexError: if a shard does not answer and ``on_lost`` is ``"error"``, or none does.
        """
        asked = hybrid.asked(self, self.hybrid, self._side_by_side.abbreviations, queries, k, filters, first_stage)
        with self._searching.reading():
            self._side_by_side.check_open()
            return search_shards(self._side_by_side, asked, self.scores_of(asked.first_stage))

    def scores_of(self, first_stage: FirstStage) -> str | None:
        """Return the name of a first stage's scores, as :meth:`PassageIndex.scores_of` does."""
        return self._side_by_side.first.scores_of(first_stage)

    def get(self, id: str) -> Passage | None:
        """Return the passage with this id, or ``None``.

        :raises PassageIndexError: if its shard is lost.
        """
        with self._searching.reading():
            self._side_by_side.check_open()
            shards = self._side_by_side.shards
            name, index = list(shards.items())[shard_of(id, len(shards))]
            if index is None:
                raise PassageIndexError(f"The shard {name}, where {id!r} would be, is lost.")
            return index.get(id)

    def update(
        self,
        changes_of_files: Iterable[PassageLike | Deletion],
        *,
        batch_size: int = BATCH_SIZE,
        show_progress: bool = False,
    ) -> UpdateReport:
        """Bring the index up to date, all of it or nothing, as :meth:`PassageIndex.update` does.

        Searches go on meanwhile; who opened the index elsewhere keeps what it was. The folder needs room for the shards
        twice. The parameters are those of ``PassageIndex.update``.

        :raises ValueError: if a passage has no text.
        :raises PassageIndexError: if a shard is lost or damaged, or nothing can be written; the index is as before.

        >>> ShardedIndex.load("pubmed-shards").update(read_updates(["pubmed26n1300.xml.gz"]))   # doctest: +SKIP
        """
        with self._changing:
            self._side_by_side.check_open()
            shards = self._side_by_side.present
            if (folder := self.folder) is None:
                raise PassageIndexError(
                    "These shards were put together in memory: ShardedIndex.load opens what can change."
                )
            if self.lost:
                raise PassageIndexError(f"An update needs every shard, and {', '.join(self.lost)} is lost.")
            size = whole_number("batch_size", batch_size)
            report = update_shards(folder, shards, changes_of_files, batch_size=size, show_progress=show_progress)
            if read_layout(folder) != {name: index.folder for name, index in shards.items()}:
                with self._searching.writing():
                    self._open_again(folder)
            return report

    def _open_again(self, folder: Path) -> None:
        before, encoder, hybrid = self._side_by_side, self.encoder, self.hybrid
        # First: two may not fit into memory. It stays closed where the new one, saved as it is, cannot be opened.
        before.close()
        with opened_shards(folder, encoder=encoder, on_lost="error", verify="fast") as shards:
            self._side_by_side = SideBySide(shards, before.on_lost, before.timeout)
        self.hybrid = hybrid

    def __len__(self) -> int:
        with self._searching.reading():
            return sum(len(index) for index in self._side_by_side.present.values())

    def passages(self) -> Iterator[Passage]:
        """Return all passages, shard by shard.

        :raises PassageIndexError: if a shard is lost.
        """
        self._side_by_side.check_open()
        if self.lost:
            raise PassageIndexError(f"Passages of {', '.join(self.lost)} are lost.")
        for index in self._side_by_side.present.values():
            yield from index.passages()

    @property
    def encoder(self) -> Encoder:
        """The encoder of passages and queries."""
        return self._side_by_side.first.encoder

    @property
    def lexical(self) -> bool:
        """Whether there is a lexical part."""
        return self._side_by_side.first.lexical

    @property
    def factory(self) -> str:
        """FAISS type of every shard."""
        return self._side_by_side.first.factory

    @property
    def hybrid(self) -> Hybrid:
        """How the hybrid first stage fuses its two sides; may be set."""
        return self._side_by_side.first.hybrid

    @hybrid.setter
    def hybrid(self, value: Hybrid) -> None:
        self._side_by_side.first.hybrid = value

    @property
    def lost(self) -> tuple[str, ...]:
        """Names of the shards that could not be opened."""
        return self._side_by_side.lost

    def close(self) -> None:
        """Release all shards. Closing twice is fine."""
        self._side_by_side.close()

    def __reduce__(self) -> tuple[Any, ...]:
        shards = self._side_by_side
        opened = partial(type(self).load, verify="fast", on_lost=shards.on_lost, timeout=shards.timeout)
        return index_again, (opened, saved_folder(self.folder), self.encoder, self.hybrid)
