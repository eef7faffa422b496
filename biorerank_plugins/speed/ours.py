"""BioReranker, as a user calls it: :meth:`BioReranker.rank <biorerank_plugins.BioReranker.rank>`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from biorerank_plugins.speed.systems import Setting, System

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biorerank_plugins.passages import Ranking

__all__ = ["logits_in_order", "ours"]


def ours(setting: Setting, *, backend: str, dtype: str, max_batch_tokens: int | None = None) -> System:
    """Load the reranker with one backend and precision.

    Long passages are cut at the limit, as all other systems do, and not read in windows.

    :param setting: what all systems share.
    :param backend: as :class:`~biorerank_plugins.BioReranker` takes it.
    :param dtype: as it takes it.
    :param max_batch_tokens: as it takes it.
    :raises ValueError: if this is not possible here.
    """
    from biorerank_plugins.reranking.reranker import BioReranker

    reranker = BioReranker(
        setting.folder,
        device=setting.device,
        backend=backend,
        dtype=dtype,
        max_length=setting.max_length,
        max_batch_tokens=max_batch_tokens,
        windows=False,
    )
    reranker.warm_up()
    batch = "" if max_batch_tokens is None else f", max_batch_tokens={max_batch_tokens}"
    return System(
        way=f"BioReranker(backend={backend!r}, dtype={dtype!r}{batch}).rank",
        dtype=dtype,
        prepare=lambda request: request,
        call=lambda request: reranker.rank(request.query, request.texts),
        values=logits_in_order,
        are_logits=True,
        is_shared=True,
        close=reranker.close,
    )


def logits_in_order(ranking: Ranking) -> NDArray[np.floating]:
    """Return the logits of a whole ranking in the order in which its passages were given."""
    logits = np.empty(len(ranking), dtype=np.float64)
    for ranked in ranking:
        logits[ranked.input_index] = ranked.logit
    return logits
