"""One search in a FAISS index: each index type wants parameters of its own class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage.factory import Factory
from biorerank_plugins.first_stage.faiss_module import faiss

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PROBED_SHARE = 8  # one list in eight is searched: a second stage follows, so recall counts
_LEAST_PROBED = 8
_LEAST_EF_SEARCH = 64
_REFINED = 4  # so many times k are looked at again


def search(
    index: Any, factory: Factory, queries: NDArray[np.float32], k: int, labels: NDArray[np.int64] | None, *, exact: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the scores of the best vectors for each query, and FAISS's own numbers of them.

    :param queries: ``[n, dimension]``.
    :param k: number of results for a query; where FAISS finds fewer, the rest of the numbers is -1.
    :param labels: FAISS's numbers of the vectors that may be found, ascending; ``None`` for all.
    :param exact: whether every vector is looked at.
    :raises PassageIndexError: if FAISS fails.
    """
    asked, parameters = _asked(index, factory, k, labels, exact=exact)
    try:
        scores, found = asked.search(queries, k, params=parameters)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise PassageIndexError(f"FAISS cannot search; its file may be damaged: {reason}") from error
    return scores, found


def _asked(index: Any, factory: Factory, k: int, labels: NDArray[np.int64] | None, *, exact: bool) -> tuple[Any, Any]:
    """Return the part of the index that is asked, and the parameters for it."""
    if factory.lists and not (exact and factory.refined):
        probed = factory.lists if exact else min(factory.lists, max(_LEAST_PROBED, factory.lists // _PROBED_SHARE))
        parameters = faiss.SearchParametersIVF(nprobe=probed, sel=_bitmap(labels))
        if factory.refined:
            parameters = faiss.IndexRefineSearchParameters(k_factor=_REFINED, base_index_params=parameters)
        return index, parameters
    if factory.links and not exact:
        effort = max(_LEAST_EF_SEARCH, 2 * k)
        if labels is not None:
            effort = effort * index.ntotal // len(labels)
        return index, faiss.SearchParametersHNSW(efSearch=effort, sel=_bitmap(labels))
    # Flat, or the vectors below a graph or behind lists. An array of numbers makes FAISS visit only these.
    selected = None if labels is None else faiss.IDSelectorArray(labels)
    return flat_storage(index, factory), faiss.SearchParameters(sel=selected)


def flat_storage(index: Any, factory: Factory) -> Any:
    """Return the flat index that holds the vectors, or ``None`` if only lists hold them."""
    if factory.labelled:
        return None
    if factory.refined:
        return faiss.downcast_index(index.refine_index)
    return faiss.downcast_index(index.storage) if factory.links else index


def _bitmap(labels: NDArray[np.int64] | None) -> Any:
    if labels is None:
        return None
    members = np.zeros(int(labels[-1]) // 8 * 8 + 8, dtype=bool)
    members[labels] = True
    return faiss.IDSelectorBitmap(np.packbits(members, bitorder="little"))
