"""The FAISS index types that are offered: how each one is made and searched."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from biorerank_plugins.errors import PassageIndexError

if TYPE_CHECKING:
    from numpy.typing import NDArray

faiss: Any = import_module("faiss")  # untyped: the type stubs it brings do not know its Python wrapper

OFFERED = (
    "Flat, HNSW<links> (HNSW32), HNSW<links>_SQ8 (HNSW32_SQ8), IVF<lists>,Flat (IVF256,Flat), "
    "IVF<lists>,PQ<bytes> (IVF256,PQ48), IVF<lists>,PQ<bytes>,Refine(SQ8) (IVF256,PQ48,Refine(SQ8))"
)

_PATTERN = re.compile(r"Flat|HNSW([1-9]\d{0,2})(_SQ8)?|IVF([1-9]\d{0,6}),(?:Flat|PQ([1-9]\d{0,3})(,Refine\(SQ8\))?)")
_PQ_CENTROIDS = 256  # one byte for each part of a vector
_TRAINING_PER_LIST = 64  # FAISS itself asks for at least 39 and uses at most 256
_TRAINING_SCALAR = 16_384  # for the range of each dimension
_HNSW_EF_CONSTRUCTION = 100  # FAISS's 40 costs recall that a second stage cannot bring back
_PROBED_SHARE = 8  # one list in eight is searched: a second stage follows, so recall counts
_LEAST_PROBED = 8
_LEAST_EF_SEARCH = 64
_REFINED = 4  # so many times k are looked at again


@dataclass(frozen=True)
class Factory:
    """One of the index types; ``index`` in its methods is a FAISS index of this type.

    :param text: FAISS factory string.
    :param links: links of a node (HNSW), else 0.
    :param lists: number of inverted lists (IVF), else 0.
    :param code_bytes: bytes of a vector (PQ), else 0.
    :param scalar: whether a byte stands for each number of a vector: below the graph (HNSW), or for the second look at
        what the lists gave (IVF).
    """

    text: str
    links: int = 0
    lists: int = 0
    code_bytes: int = 0
    scalar: bool = False

    @property
    def refined(self) -> bool:
        """Whether what the lists give is looked at again with better vectors."""
        return bool(self.lists) and self.scalar

    @property
    def labelled(self) -> bool:
        """Whether FAISS keeps row numbers; other types know vectors by position, and take them in order of rows."""
        return bool(self.lists) and not self.scalar

    @property
    def hides(self) -> bool:
        """Whether FAISS cannot take vectors out, so that removed ones are hidden."""
        return bool(self.links) or self.refined

    @property
    def needed(self) -> int:
        """Fewest vectors it can be trained on."""
        return max(self.lists, _PQ_CENTROIDS if self.code_bytes else 0, 1)

    @property
    def training_size(self) -> int:
        """Number of vectors it is trained on where there are as many; 0 if it needs no training."""
        if self.lists:
            return max(self.lists * _TRAINING_PER_LIST, _TRAINING_PER_LIST * _PQ_CENTROIDS)
        return _TRAINING_SCALAR if self.scalar else 0

    def check(self, count: int, dimension: int) -> None:
        """Refuse a collection that is too small to train on, or a dimension that cannot be cut as asked.

        :raises PassageIndexError: if so; the message says what is possible.
        """
        if self.code_bytes and dimension % self.code_bytes:
            raise PassageIndexError(
                f"factory={self.text!r} cuts a vector into {self.code_bytes} parts, but the encoder's {dimension} "
                f"dimensions are no multiple of {self.code_bytes}. Choose a divisor of {dimension}."
            )
        if count < self.needed:
            raise PassageIndexError(
                f"factory={self.text!r} needs at least {self.needed} passages to be trained on, got {count}. "
                "Use fewer lists, or factory='Flat'."
            )

    def make(self, dimension: int) -> Any:
        """Return an empty FAISS index for inner products."""
        index = faiss.index_factory(dimension, self.text, faiss.METRIC_INNER_PRODUCT)
        if self.links:
            index.hnsw.efConstruction = max(_HNSW_EF_CONSTRUCTION, 2 * self.links)
        coarse = self._coarse(index)
        if self.lists:
            coarse.cp.min_points_per_centroid = 1  # check() decides; FAISS writes its warning to stderr
        if self.code_bytes:
            coarse.pq.cp.min_points_per_centroid = 1
            coarse.do_polysemous_training = False  # seconds of work for a kind of search that is not used here
        return index

    def lists_of(self, index: Any) -> int:
        """Return the number of inverted lists that are really there."""
        return getattr(self._coarse(index), "nlist", 0)

    def _coarse(self, index: Any) -> Any:
        return faiss.downcast_index(index.base_index) if self.refined else index

    def flat_storage(self, index: Any) -> Any:
        """Return the flat index that holds the vectors, or ``None`` if only lists hold them."""
        if self.labelled:
            return None
        if self.refined:
            return faiss.downcast_index(index.refine_index)
        return faiss.downcast_index(index.storage) if self.links else index

    def search(
        self, index: Any, queries: NDArray[np.float32], k: int, labels: NDArray[np.int64] | None, *, exact: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the scores of the best vectors for each query, and FAISS's own numbers of them.

        :param k: number of results for a query; where FAISS finds fewer, the rest of the numbers is -1.
        :param labels: FAISS's numbers of the vectors that may be found, ascending; ``None`` for all.
        :param exact: whether every vector is looked at.
        :raises PassageIndexError: if FAISS fails.
        """
        asked, parameters = self._asked(index, k, labels, exact=exact)
        try:
            scores, found = asked.search(queries, k, params=parameters)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise PassageIndexError(f"FAISS cannot search; its file may be damaged: {reason}") from error
        return scores, found

    def _asked(self, index: Any, k: int, labels: NDArray[np.int64] | None, *, exact: bool) -> tuple[Any, Any]:
        """Return the part of the index that is asked, and the parameters for it, of the class that its type wants."""
        if self.lists and not (exact and self.refined):
            probed = self.lists if exact else min(self.lists, max(_LEAST_PROBED, self.lists // _PROBED_SHARE))
            parameters = faiss.SearchParametersIVF(nprobe=probed, sel=_bitmap(labels))
            if self.refined:
                parameters = faiss.IndexRefineSearchParameters(k_factor=_REFINED, base_index_params=parameters)
            return index, parameters
        if self.links and not exact:
            effort = max(_LEAST_EF_SEARCH, 2 * k)
            if labels is not None:
                effort = effort * index.ntotal // len(labels)
            return index, faiss.SearchParametersHNSW(efSearch=effort, sel=_bitmap(labels))
        # Flat, or the vectors below a graph or behind lists. An array of numbers makes FAISS visit only these.
        selected = None if labels is None else faiss.IDSelectorArray(labels)
        return self.flat_storage(index), faiss.SearchParameters(sel=selected)


def _bitmap(labels: NDArray[np.int64] | None) -> Any:
    if labels is None:
        return None
    members = np.zeros(int(labels[-1]) // 8 * 8 + 8, dtype=bool)
    members[labels] = True
    return faiss.IDSelectorBitmap(np.packbits(members, bitorder="little"))


def parse_factory(text: str) -> Factory:
    """Read a factory string.

    :param text: one of those that are offered.
    :raises ValueError: if it is not; the message lists them.

    >>> parse_factory("IVF256,PQ48")
    Factory(text='IVF256,PQ48', links=0, lists=256, code_bytes=48, scalar=False)
    """
    match = _PATTERN.fullmatch(text) if isinstance(text, str) else None
    if match is None or match[1] == "1":
        raise ValueError(f"factory={text!r} is not offered. Choose one of: {OFFERED}.")
    links, lists, code_bytes = (int(match[group] or 0) for group in (1, 3, 4))
    return Factory(text, links, lists, code_bytes, scalar=bool(match[2] or match[5]))
