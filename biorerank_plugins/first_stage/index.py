"""PassageIndex: passages found by the inner product of their vectors with a query's, and by their words."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from biorerank_plugins._common.checks import whole_number
from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage import (
    arguments,
    building,
    changes,
    embedding,
    hybrid,
    persistence,
    staging,
)
from biorerank_plugins.first_stage.factory import parse_factory
from biorerank_plugins.first_stage.filters import Filter, compile_filter
from biorerank_plugins.first_stage.fusion import Hybrid, stored_hybrid
from biorerank_plugins.first_stage.locks import ReadWriteLock
from biorerank_plugins.first_stage.persistence import Contents
from biorerank_plugins.first_stage.staging import OnDuplicate
from biorerank_plugins.passages import Passage, PassageLike

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.arguments import FirstStage
    from biorerank_plugins.first_stage.protocol import Encoder, FoundCandidates

__all__ = ["PassageIndex"]

_BATCH_SIZE = 1024  # long enough to sort by length within it, short enough for a lively progress bar


class PassageIndex:
    """Passages in SQLite, their vectors in FAISS, their words in BM25; a higher score is better.

    A search asks both sides and fuses what they find (``"hybrid"``), or one of them: ``"dense"``, whose scores are
    inner products, or ``"lexical"``, whose scores are BM25's and which finds only passages that share a word with the
    query.

    Made by :meth:`build` or :meth:`load`. It lives in memory until :meth:`save`; from then on, and after :meth:`load`,
    :meth:`add` and :meth:`remove` are durable: when they return, the folder holds the new state, and if they fail it
    holds the old one. Any number of threads may search; a change waits for them and lets them wait.

    >>> index = PassageIndex.build(["p53 suppresses tumours.", "Aspirin inhibits COX."])    # doctest: +SKIP
    >>> index.search("What does aspirin inhibit?", k=1)[0].passage.id                       # doctest: +SKIP
    '1'
    >>> index.save("my-index")                                                              # doctest: +SKIP
    """

    def __init__(self, contents: Contents, encoder: Encoder, folder: Path | None = None) -> None:
        self._contents = contents
        self._encoder = encoder
        self._folder = folder
        self._stored_hybrid = stored_hybrid(encoder)
        self._hybrid = Hybrid() if self._stored_hybrid is None else self._stored_hybrid
        self._searching = ReadWriteLock()
        self._changing = Lock()
        self._closed = False

    @classmethod
    def build(
        cls,
        passages: Iterable[PassageLike],
        *,
        encoder: Encoder | None = None,
        factory: str = "Flat",
        batch_size: int = _BATCH_SIZE,
        show_progress: bool = False,
        on_duplicate: OnDuplicate = "error",
        lexical: bool = True,
    ) -> Self:
        """Embed passages and index them in memory.

        :param passages: strings (whose id is their position), passages or candidates; read once.
        :param encoder: what embeds passages and queries; ``None`` for the embedded bi-encoder.
        :param factory: ``"Flat"`` (exact), ``"HNSW<M>"``, ``"HNSW<M>_SQ8"``, ``"IVF<lists>,Flat"``,
            ``"IVF<lists>,PQ<bytes>"`` or ``"IVF<lists>,PQ<bytes>,Refine(SQ8)"``.
        :param batch_size: passages that are embedded and added at a time.
        :param show_progress: whether to show a progress bar.
        :param on_duplicate: ``"error"``, or ``"skip"`` to keep the first passage of an id.
        :param lexical: whether to index the passages' words too, for the hybrid and the lexical first stage.
        :raises PassageIndexError: if there are no passages, or fewer than the factory needs.
        :raises ValueError: if an id comes twice, a passage has no text, or an argument is out of range.
        """
        contents, encoder = building.build(
            passages,
            encoder,
            parse_factory(factory),
            batch_size=whole_number("batch_size", batch_size),
            show_progress=show_progress,
            on_duplicate=on_duplicate,
            with_lexical=lexical,
        )
        return cls(contents, encoder)

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], *, encoder: Encoder | None = None, verify: Literal["full", "fast"] = "full"
    ) -> Self:
        """Open a saved index; later changes go to its folder.

        One that was saved before there was a lexical part gets it now, which takes some seconds for 100,000 passages.

        :param folder: folder it was saved in.
        :param encoder: the encoder it was built with; ``None`` makes that from the folder's manifest.
        :param verify: ``"full"`` compares the SHA-256 of every file before anything is parsed, ``"fast"`` their sizes.
        :raises PassageIndexError: if there is no index, it is damaged, or was built with another encoder.
        """
        path = Path(folder).expanduser().absolute()
        contents, encoder = persistence.read(path, encoder, verify)
        return cls(contents, encoder, path)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the index to a folder, all of it or nothing, and bind it to this folder.

        :param folder: a new or empty folder, or one that holds an index, which is replaced.
        :raises PassageIndexError: if the folder holds something else, or cannot be written.
        """
        path = Path(folder).expanduser().absolute()
        with self._changing:
            self._check_open()
            contents = persistence.write(path, self._contents, self._encoder)
            with self._searching.writing():
                self._contents.catalog.close()
                self._contents, self._folder = contents, path

    def add(
        self,
        passages: Iterable[PassageLike],
        *,
        batch_size: int = _BATCH_SIZE,
        show_progress: bool = False,
        on_duplicate: OnDuplicate = "error",
    ) -> int:
        """Add passages, all of them or none.

        :param passages: as in :meth:`build`.
        :param batch_size: as in :meth:`build`.
        :param show_progress: whether to show a progress bar.
        :param on_duplicate: ``"error"``, or ``"skip"`` to leave out ids that are there.
        :returns: number of passages that were added.
        :raises ValueError: as :meth:`build`.
        :raises PassageIndexError: if the new state cannot be written; the index is as before.
        """
        batch_size = whole_number("batch_size", batch_size)
        with self._changing:
            self._check_open()
            contents = self._contents
            staged = staging.stage(
                passages,
                first_row=contents.vectors.next_row,
                on_duplicate=on_duplicate,
                existing=contents.catalog,
            )
            if not len(staged):
                return 0
            change = changes.insertion(
                staged,
                contents.lexical,
                self._encoder,
                batch_size=batch_size,
                show_progress=show_progress,
            )
            return self._apply(change)

    def remove(self, ids: Iterable[str], *, missing: Literal["error", "skip"] = "error") -> int:
        """Remove passages, all of them or none.

        :param ids: ids of the passages.
        :param missing: what to do with an id that is not there: ``"error"`` or ``"skip"``.
        :returns: number of passages that were removed.
        :raises ValueError: if an id is not there.
        :raises PassageIndexError: if the new state cannot be written; the index is as before.
        """
        wanted = arguments.check_ids(ids)
        with self._changing:
            self._check_open()
            contents = self._contents
            rows = contents.catalog.rows_of(wanted, missing)
            if not len(rows):
                return 0
            return self._apply(changes.removal(rows, contents.lexical))

    def _apply(self, change: changes.Change) -> int:
        if change.lexical is not None and self._folder is not None:
            change.lexical.prepare()  # its scores are written too, and searches need not wait for them
        with self._searching.writing():
            persistence.change(self._contents, self._encoder, self._folder, change)
        return len(change.rows)

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
        self,
        queries: Sequence[str],
        k: int = 10,
        filters: Filter | None = None,
        first_stage: FirstStage | None = None,
    ) -> list[FoundCandidates]:
        """Return the best passages for each of several queries, as :meth:`search` does.

        :param queries: the questions; embedded together.
        :param k: number of passages for each.
        :param filters: the same for all.
        :param first_stage: the same for all.
        """
        k = whole_number("k", k)
        asked = arguments.check_queries(queries)
        condition = compile_filter(filters)
        chosen = arguments.check_first_stage(first_stage, has_lexical=self.lexical)
        self._check_open()
        if not asked:
            return []
        vectors = hybrid.NOT_EMBEDDED if chosen == "lexical" else embedding.embed_queries(asked, self._encoder)
        with self._searching.reading():
            self._check_open()
            contents = self._contents
            allowed = None if condition is None else contents.catalog.rows(condition)
            sides = hybrid.Sides(contents.vectors, contents.lexical, self._hybrid)
            return contents.catalog.candidates(sides.search(chosen, asked, vectors, k, allowed), self.scores_of(chosen))

    @contextmanager
    def reading(self) -> Iterator[Contents]:
        """Lend what the index holds, to be read while nothing changes it; for searches over several indexes."""
        with self._searching.reading():
            self._check_open()
            yield self._contents

    def scores_of(self, first_stage: FirstStage) -> str | None:
        """Return the name of a first stage's scores, under which a reranker may store a fusion weight for them.

        :param first_stage: ``"hybrid"``, ``"dense"`` or ``"lexical"``.
        :returns: ``None`` for hybrid scores that are fused in another way than the bi-encoder's folder says: no weight
            was fitted to them.
        """
        if first_stage == "lexical":
            return "lexical"
        if first_stage == "hybrid":
            return f"hybrid/{self._encoder.model_id}" if self._hybrid == self._stored_hybrid else None
        return self._encoder.model_id

    def get(self, id: str) -> Passage | None:
        """Return the passage with this id, or ``None``."""
        with self._searching.reading():
            self._check_open()
            catalog = self._contents.catalog
            rows = list(catalog.find([id]).values())
            return catalog.fetch(rows)[rows[0]] if rows else None

    def passages(self) -> Iterator[Passage]:
        """Yield all passages in insertion order; not to be mixed with changes."""
        self._check_open()
        for _, passage in self._contents.catalog.passages():
            yield passage

    def __len__(self) -> int:
        with self._searching.reading():
            self._check_open()
            return len(self._contents.vectors)

    def __contains__(self, id_: object) -> bool:
        return isinstance(id_, str) and self.get(id_) is not None

    @property
    def encoder(self) -> Encoder:
        """The encoder of passages and queries."""
        return self._encoder

    @property
    def factory(self) -> str:
        """FAISS factory string."""
        return self._contents.factory.text

    @property
    def lexical(self) -> bool:
        """Whether there is a lexical part, which the hybrid and the lexical first stage need."""
        return self._contents.lexical is not None

    @property
    def hybrid(self) -> Hybrid:
        """How the hybrid first stage fuses its two sides; may be set.

        At first what is stored with the bi-encoder, else reciprocal rank fusion.
        """
        return self._hybrid

    @hybrid.setter
    def hybrid(self, value: Hybrid) -> None:
        if not isinstance(value, Hybrid):
            raise TypeError(f"hybrid must be a Hybrid, got {type(value).__name__}: {value!r:.80}")
        self._hybrid = value

    @property
    def stored_hybrid(self) -> Hybrid | None:
        """What is stored with the bi-encoder for :attr:`hybrid`; ``None`` if nothing is."""
        return self._stored_hybrid

    @property
    def folder(self) -> Path | None:
        """Folder that changes are written to; ``None`` while the index lives in memory only."""
        return self._folder

    def close(self) -> None:
        """Release the index; what was not saved is gone. Closing twice is fine."""
        with self._changing, self._searching.writing():
            if not self._closed:
                self._closed = True
                self._contents.catalog.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise PassageIndexError("This index was closed. Load or build it again.")
