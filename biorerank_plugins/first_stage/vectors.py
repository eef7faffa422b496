"""Vectors in FAISS: inner product, higher is better, found by row number, whatever the index type.

What FAISS leaves to its caller is handled here: row numbers that survive removals, full result lists under a filter,
the order of ties, and index types that cannot remove.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from biorerank_plugins._common.forks import forked
from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage.factory import Factory, faiss
from biorerank_plugins.runtime.computing import computing

FloatArray: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]
RowArray: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Found: TypeAlias = tuple[np.ndarray[Any, np.dtype[np.floating[Any]]], RowArray]
"""Scores and row numbers, best first."""

_LISTS_ON_DISK = faiss.IO_FLAG_ONDISK_SAME_DIR | faiss.IO_FLAG_READ_ONLY
_QUERIES_AT_ONCE = 16  # from 20 on FAISS multiplies matrices, and equal vectors may get unequal last bits
_SELECTIVE = 0.1  # a filter that keeps less than this is served by exact scoring
_FEW = 10_000  # … and so is one that keeps no more vectors than this
_COMPACT_AT = 0.25  # share of removed vectors at which an HNSW index is built anew


class VectorStore:
    """A FAISS index whose results are row numbers.

    Many threads may search at once; the owner keeps changes apart from searches.

    :param index: trained FAISS index.
    :param factory: its type.
    :param rows: row number of every vector in it, ascending, removed ones included.
    :param dead: those of ``rows`` that were removed and could not be taken out.
    :param lists_file: file that holds the inverted lists, which are then read from disk and cannot be changed; ``None``
        if they are in memory.
    """

    def __init__(
        self, index: Any, factory: Factory, rows: RowArray, dead: RowArray, *, lists_file: Path | None = None
    ) -> None:
        self._index = index
        self._factory = factory
        self.lists_file = lists_file
        self._rows = rows
        self._alive = ~np.isin(rows, dead)

    @classmethod
    def empty(cls, factory: Factory, dimension: int, sample: FloatArray | None = None) -> VectorStore:
        """Return a store without vectors, trained on a sample of them where the type needs it."""
        index = factory.make(dimension)
        if not index.is_trained:
            index.train(np.ascontiguousarray(sample, dtype=np.float32))
        nothing = np.empty(0, dtype=np.int64)
        return cls(index, factory, nothing, nothing)

    def __len__(self) -> int:
        return int(np.count_nonzero(self._alive))

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self._index.d)

    @property
    def dead_rows(self) -> RowArray:
        """Rows that were removed and whose vectors are still stored."""
        return self._rows[~self._alive]

    @property
    def next_row(self) -> int:
        """Lowest row number above all that are in use."""
        return int(self._rows[-1]) + 1 if len(self._rows) else 0

    def reserve(self, count: int) -> None:
        """Make room for ``count`` vectors, so that adding them in pieces never copies those already there."""
        storage = self._factory.flat_storage(self._index)
        if storage is not None and storage.ntotal == 0:
            storage.codes.resize(count * storage.code_size)
            storage.codes.resize(0)

    def add(self, rows: RowArray, batches: Iterable[tuple[RowArray, FloatArray]]) -> None:
        """Add vectors, all of them or none.

        :param rows: row numbers of all that is added, ascending, above those in the store.
        :param batches: the same rows piece by piece with their vectors ``[n, dimension]``; in order of rows unless
            FAISS keeps row numbers (:attr:`Factory.labelled`).
        """
        self._check_changeable()
        try:
            for batch_rows, vectors in batches:
                if self._factory.labelled:
                    self._index.add_with_ids(vectors, batch_rows)
                else:
                    self._index.add(vectors)
        except BaseException:
            self._forget(rows)
            raise
        self._register(rows, alive=True)

    def _register(self, rows: RowArray, *, alive: bool) -> None:
        self._rows = np.concatenate([self._rows, rows])
        self._alive = np.concatenate([self._alive, np.full(len(rows), alive)])

    def _forget(self, rows: RowArray) -> None:
        """Undo an addition that stopped half-way."""
        if self._factory.hides:
            self._register(rows[: self._index.ntotal - len(self._rows)], alive=False)
        elif len(rows):
            first = int(rows[0]) if self._factory.labelled else len(self._rows)
            self._index.remove_ids(faiss.IDSelectorRange(first, np.iinfo(np.int64).max))

    def remove(self, rows: RowArray) -> None:
        """Take vectors out, or hide them where FAISS cannot take them out."""
        self._check_changeable()
        positions = np.searchsorted(self._rows, np.sort(rows))
        if self._factory.hides:
            self._alive[positions] = False
            if self._factory.links and self._rows.size and len(self) < (1 - _COMPACT_AT) * self._rows.size:
                self._compact()
            return
        labels = self._rows[positions] if self._factory.labelled else positions
        self._index.remove_ids(faiss.IDSelectorBatch(labels.astype(np.int64)))
        keep = np.ones(len(self._rows), dtype=bool)
        keep[positions] = False
        self._rows, self._alive = self._rows[keep], self._alive[keep]

    def _check_changeable(self) -> None:
        if self.lists_file is not None:
            raise PassageIndexError("An index whose lists are on disk cannot be changed. Build it again.")

    def _compact(self) -> None:
        """Build the graph anew from the vectors that are left."""
        fresh = self._factory.make(self.dimension)
        stored = faiss.downcast_index(self._index.storage)
        left = np.flatnonzero(self._alive)
        if not fresh.is_trained:  # on the vectors that were coded already, whose range is that of the first training
            fresh.train(stored.reconstruct_n(0, stored.ntotal))
        for start in range(0, len(left), 4096):
            fresh.add(stored.reconstruct_batch(left[start : start + 4096]))
        self._index, self._rows = fresh, self._rows[left]
        self._alive = np.ones(len(left), dtype=bool)

    def search(self, queries: FloatArray, k: int, allowed: RowArray | None = None) -> list[Found]:
        """Return for each query the scores and rows of the best vectors, by score, then by row.

        :param allowed: rows that may be found, ascending; ``None`` for all. ``min(k, allowed)`` are found.
        """
        k = min(k, len(self) if allowed is None else len(allowed))
        if k == 0:
            return [(np.empty(0, np.float32), np.empty(0, np.int64)) for _ in queries]
        labels = self._labels(allowed)
        found: list[Found] = []
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            found += self._search_block(np.ascontiguousarray(queries[start : start + _QUERIES_AT_ONCE]), k, labels)
        return found

    def _labels(self, allowed: RowArray | None) -> RowArray | None:
        """Turn allowed rows into FAISS's own numbers; ``None`` if every vector of the index is allowed."""
        if allowed is None:
            if self._alive.all():
                return None
            allowed = self._rows[self._alive]
        return allowed if self._factory.labelled else np.searchsorted(self._rows, allowed).astype(np.int64)

    def _search_block(self, queries: FloatArray, k: int, labels: RowArray | None) -> list[Found]:
        available = len(self._rows) if labels is None else len(labels)
        exact = labels is not None and (len(labels) <= _FEW or len(labels) < _SELECTIVE * len(self._rows))
        fetch = min(k + 1, available)
        while True:
            search = partial(self._factory.search, self._index, queries, fetch, labels, exact=exact)
            scores, found = computing(search) if forked() else search()  # FAISS has helpers of its own
            if not exact and bool((found < 0).any()):
                exact = True  # the approximate search came back with fewer than there are
                continue
            if fetch == available or not bool((scores[:, k - 1] == scores[:, -1]).any()):
                break
            # Which of several equal vectors is the last one must not be left to FAISS: look past all of them.
            exact, fetch = True, min(2 * fetch, available)
        rows = found if self._factory.labelled else self._rows[found]
        return [best((scores[i], rows[i]), k) for i in range(len(queries))]

    def write(self, file: BinaryIO) -> None:
        """Write the FAISS index; errors of the file's ``write`` come through, unlike those of a path given to FAISS."""
        faiss.write_index(self._index, faiss.PyCallbackIOWriter(file.write))


def best(found: Found, k: int) -> Found:
    """Return the ``k`` best, by score, then by row."""
    scores, rows = found
    order = np.lexsort((rows, -scores))[:k]
    return scores[order], rows[order]


def read_vectors(
    path: Path, factory: Factory, dimension: int, rows: RowArray, dead: RowArray, *, lists_file: Path | None = None
) -> VectorStore:
    """Read a FAISS file and hold it against what it should be; the parameters are those of :class:`VectorStore`.

    :raises PassageIndexError: if the file cannot be read or holds something else.
    """
    try:
        index = faiss.read_index(str(path), 0 if lists_file is None else _LISTS_ON_DISK)
    except (RuntimeError, MemoryError) as error:  # a damaged size asks for more memory than there is
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise PassageIndexError(f"FAISS cannot read {path.name}: {reason}") from error
    expected = factory.make(dimension)
    if not isinstance(index, type(expected)):
        raise PassageIndexError(f"{path.name} holds a {type(index).__name__}, the manifest says {factory.text}.")
    for what, got, wanted in (
        ("metric", index.metric_type, expected.metric_type),
        ("dimension", index.d, dimension),
        ("lists", factory.lists_of(index), factory.lists),
        ("number of vectors", index.ntotal, len(rows)),
    ):
        if got != wanted:
            raise PassageIndexError(f"{path.name} does not fit the manifest: {what} is {got}, expected {wanted}.")
    return VectorStore(index, factory, rows, dead, lists_file=lists_file)
