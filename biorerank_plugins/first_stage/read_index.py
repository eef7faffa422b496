"""The side of a passage index that changes nothing: searches, passages by id, and what the index is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Condition, Lock
from typing import Any

import numpy as np

from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage import hybrid
from biorerank_plugins.first_stage.arguments import FirstStage
from biorerank_plugins.first_stage.catalog import DAMAGED
from biorerank_plugins.first_stage.definitions import Definitions
from biorerank_plugins.first_stage.filters import Filter
from biorerank_plugins.first_stage.fusion import Hybrid, stored_hybrid
from biorerank_plugins.first_stage.persistence import Contents
from biorerank_plugins.first_stage.protocol import Encoder, FoundCandidates, SearchableIndex
from biorerank_plugins.passages import Passage


class ReadWriteLock:
    """Many readers or one writer: searches share it, a change has it alone, and lets no new search in while it waits.

    Not reentrant.

    >>> lock = ReadWriteLock()
    >>> with lock.reading():
    ...     pass
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._readers = 0
        self._writing = False
        self._writers_waiting = 0

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold the lock beside other readers."""
        with self._changed:
            self._changed.wait_for(lambda: not self._writing and not self._writers_waiting)
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock alone."""
        with self._changed:
            self._writers_waiting += 1
            try:
                self._changed.wait_for(lambda: not self._writing and not self._readers)
                self._writing = True
            finally:
                self._writers_waiting -= 1
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._writing = False
                self._changed.notify_all()


class ReadIndex(SearchableIndex):
    """What a :class:`~biorerank_plugins.PassageIndex` does beside being built and changed.

    :param contents: passages, vectors and words.
    :param encoder: what embeds queries.
    :param folder: where it is saved, if it is.
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

    def search_many(
        self, queries: Sequence[str], k: int = 10, filters: Filter | None = None, first_stage: FirstStage | None = None
    ) -> list[FoundCandidates]:
        """Return the best passages for each of several queries, as :meth:`search` does.

        :param queries: the questions; embedded together.
        :param k: number of passages for each.
        :param filters: the same for all.
        :param first_stage: the same for all.
        """
        asked = hybrid.asked(self, self._hybrid, self.definitions.abbreviations, queries, k, filters, first_stage)
        with self.reading() as contents:
            found = [hybrid.merge([piece], asked) for piece in hybrid.search_contents(contents, asked)]
            rows = hybrid.rows_in(found)
            passages = contents.catalog.fetch(rows)
            if len(passages) < len(rows) or not all(np.isfinite(scores).all() for scores, _ in found):
                raise PassageIndexError(f"Found passages that are not there, or no numbers as scores. {DAMAGED}")
            scores_are = self.scores_of(asked.first_stage)
            return [hybrid.candidates_of(best, passages, scores_are) for best in found]

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
        with self.reading() as contents:
            return contents.catalog.with_ids([id]).get(id)

    def passages(self) -> Iterator[Passage]:
        """Yield all passages in insertion order; not to be mixed with changes."""
        self._check_open()
        for _, passage in self._contents.catalog.passages():
            yield passage

    def __len__(self) -> int:
        with self.reading() as contents:
            return len(contents.vectors)

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
    def definitions(self) -> Definitions:
        """The abbreviations that the passages define; none without a lexical part, which keeps them."""
        lexical = self._contents.lexical
        return Definitions.none() if lexical is None else lexical.definitions

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

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy, here or in another process, opens the folder; it sees what the folder holds by then.
        opened = partial(type(self).load, verify="fast")  # type: ignore[attr-defined]
        return index_again, (opened, saved_folder(self._folder), self._encoder, self._hybrid)

    def _check_open(self) -> None:
        if self._closed:
            raise PassageIndexError("This index was closed. Load or build it again.")


def saved_folder(folder: Path | None) -> Path:
    """Return the folder of an index that is to be pickled or copied.

    :raises PassageIndexError: if it has none.
    """
    if folder is None:
        raise PassageIndexError(
            "An index in memory cannot be pickled or copied: save it first (index.save(folder)), then copies open that."
        )
    return folder


def index_again(opened: Callable[..., Any], folder: Path, encoder: Encoder, hybrid: Hybrid) -> Any:
    """Open an index as it was pickled."""
    index = opened(folder, encoder=encoder)
    index.hybrid = hybrid
    return index
