"""PassageIndex: passages found by the inner product of their vectors with a query's, and by their words."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self

import numpy as np

from biorerank_plugins._common.checks import string, whole_number
from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage import changes, persistence
from biorerank_plugins.first_stage.arguments import refuse_string
from biorerank_plugins.first_stage.catalog import Catalog
from biorerank_plugins.first_stage.changes import OnDuplicate, UpdateReport, plan_update
from biorerank_plugins.first_stage.embedding import BATCH_SIZE, vector_store
from biorerank_plugins.first_stage.factory import parse_factory
from biorerank_plugins.first_stage.lexical import index_passages
from biorerank_plugins.first_stage.protocol import Encoder
from biorerank_plugins.first_stage.read_index import ReadIndex
from biorerank_plugins.first_stage.vectors import RowArray
from biorerank_plugins.passages import Deletion, PassageLike


class PassageIndex(ReadIndex):
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

    @classmethod
    def build(
        cls,
        passages: Iterable[PassageLike],
        *,
        encoder: Encoder | None = None,
        factory: str = "Flat",
        batch_size: int = BATCH_SIZE,
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
        kind, batch_size = parse_factory(factory), whole_number("batch_size", batch_size)
        catalog = changes.fill(Catalog.in_memory(), passages, on_duplicate=on_duplicate)
        if not len(catalog):
            raise PassageIndexError("There are no passages to index: the collection is empty.")
        if encoder is None:
            from biorerank_plugins.first_stage.encoder import BiEncoder

            encoder = BiEncoder()
        vectors = vector_store(catalog, encoder, kind, batch_size=batch_size, show_progress=show_progress)
        words = index_passages(catalog.passages(), encoder.config()) if lexical else None
        return cls(persistence.Contents(vectors, catalog, kind, words), encoder)

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
        batch_size: int = BATCH_SIZE,
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
            staged = changes.fill(
                Catalog.in_memory(),
                passages,
                first_row=contents.vectors.next_row,
                on_duplicate=on_duplicate,
                existing=contents.catalog,
            )
            return self._change(np.empty(0, np.int64), staged, batch_size=batch_size, show_progress=show_progress)

    def remove(self, ids: Iterable[str], *, missing: Literal["error", "skip"] = "error") -> int:
        """Remove passages, all of them or none.

        :param ids: ids of the passages.
        :param missing: what to do with an id that is not there: ``"error"`` or ``"skip"``.
        :returns: number of passages that were removed.
        :raises ValueError: if an id is not there.
        :raises PassageIndexError: if the new state cannot be written; the index is as before.
        """
        refuse_string(ids, "ids")
        wanted = list(dict.fromkeys(string("An id", id_) for id_ in ids))
        with self._changing:
            self._check_open()
            return self._change(self._contents.catalog.rows_of(wanted, missing), Catalog.in_memory())

    def update(
        self,
        changes_of_files: Iterable[PassageLike | Deletion],
        *,
        batch_size: int = BATCH_SIZE,
        show_progress: bool = False,
    ) -> UpdateReport:
        """Bring the index up to date, all of it or nothing: newer versions replace, deletions remove.

        :param changes_of_files: passages and deletions, in the order in which they hold, as
            :func:`~biorerank_plugins.readers.read_updates` gives them. A passage whose ``version`` is below that in the
            index is left out.
        :param batch_size: as in :meth:`build`.
        :param show_progress: whether to show a progress bar.
        :returns: how many were added, replaced, removed and so on.
        :raises ValueError: if a passage has no text.
        :raises PassageIndexError: if the new state cannot be written; the index is as before.

        Example::

            index = PassageIndex.load("pubmed-index")
            print(index.update(read_updates(["pubmed26n1300.xml.gz", "pubmed26n1301.xml.gz"])))
        """
        batch_size = whole_number("batch_size", batch_size)
        with self._changing:
            self._check_open()
            contents = self._contents
            plan = plan_update(changes_of_files, [contents.catalog])
            outdated = contents.catalog.rows_of(plan.outdated, "error")
            staged = Catalog.in_memory()
            staged.insert(enumerate(plan.passages, start=contents.vectors.next_row))
            self._change(outdated, staged, batch_size=batch_size, show_progress=show_progress)
            return plan.report

    def _change(
        self, outdated: RowArray, staged: Catalog, *, batch_size: int = BATCH_SIZE, show_progress: bool = False
    ) -> int:
        """Take some rows out and put passages in, if there are any; return how many passages that were."""
        lexical, encoder = self._contents.lexical, self._encoder
        change = changes.prepared(
            outdated, staged, lexical, encoder, batch_size=batch_size, show_progress=show_progress
        )
        if len(change.rows):
            if change.lexical is not None and self._folder is not None:
                change.lexical.prepare()  # its scores are written too, and searches need not wait for them
            with self._searching.writing():
                persistence.change(self._contents, encoder, self._folder, change)
        return len(change.rows)
