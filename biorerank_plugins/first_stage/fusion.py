"""Several rankings of the same passages become one."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biorerank_plugins._common.checks import finite_number, whole_number
from biorerank_plugins.errors import ModelError
from biorerank_plugins.first_stage.protocol import Encoder
from biorerank_plugins.models.stored import SETTINGS_FILE, read_stored

DEPTH = 100
"""How many candidates the hybrid first stage takes from each side, at least."""

Method = Literal["weighted", "rrf"]
T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True)
class Hybrid:
    """How the two sides of a hybrid first stage become one list.

    :param method: ``"weighted"`` for :func:`weighted_sum`, ``"rrf"`` for :func:`reciprocal_rank_fusion`.
    :param lexical_weight: weight of the lexical side, for ``"weighted"`` only.
    :param depth: candidates taken from each side, or as many as are asked for if these are more. Not compared: it does
        not change what a score means.
    :raises ValueError: if an argument is out of its range.

    >>> Hybrid("weighted", lexical_weight=0.3) == Hybrid("weighted", lexical_weight=0.3, depth=200)
    True
    """

    method: Method = "rrf"
    lexical_weight: float | None = None
    depth: int = field(default=DEPTH, compare=False)

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ValueError(f"method={self.method!r} is unknown. Choose 'weighted' or 'rrf'.")
        whole_number("depth", self.depth)
        if self.method == "weighted":
            finite_number("lexical_weight", self.lexical_weight, low=0, high=1e6)
        elif self.lexical_weight is not None:
            raise ValueError(f"lexical_weight={self.lexical_weight!r} has no meaning for method='rrf'; leave it out.")


def reciprocal_rank_fusion(lists: Iterable[Sequence[T]], k: int = 60) -> dict[T, float]:
    """Fuse rankings by rank: an item's score is the sum of ``1 / (k + rank)`` over the lists that have it.

    Cormack, Clarke and Büttcher: Reciprocal Rank Fusion outperforms Condorcet and individual rank learning methods,
    SIGIR 2009.

    :param lists: rankings, best first; no item twice in one of them.
    :param k: how little the first ranks stand out; 60 is the paper's.
    :returns: score of every item, best first, ties in the order of first appearance.
    :raises ValueError: if ``k`` is no whole number of at least 0.

    >>> list(reciprocal_rank_fusion([["a", "b", "c"], ["c", "a"]]))
    ['a', 'c', 'b']
    """
    k = whole_number("k", k, least=0)
    scores: dict[T, float] = {}
    for ranking in lists:
        for rank, item in enumerate(ranking, start=1):
            scores[item] = scores.get(item, 0.0) + 1 / (k + rank)
    return dict(sorted(scores.items(), key=lambda item: -item[1]))


def weighted_sum(dense: ArrayLike, lexical: ArrayLike, lexical_weight: float) -> NDArray[np.float64]:
    """Fuse scores: the dense one plus the weighted lexical one as a share of the query's best.

    The linear combination of Bruch, Gai and Ingber: An Analysis of Fusion Functions for Hybrid Retrieval, TOIS 2023,
    which fits its one weight on few queries and beats fusion by rank. BM25 has no upper end, so that its score is
    divided by the query's maximum (it is at least 0); a cosine is taken as it is.

    :param dense: ``[n]`` inner products of the candidates.
    :param lexical: ``[n]`` BM25 scores of the same candidates, the best of the query among them.
    :param lexical_weight: weight of the lexical share.
    :returns: ``[n]`` scores.
    """
    shares = np.asarray(lexical, dtype=np.float64)
    best = shares.max(initial=0.0)
    return np.asarray(dense, dtype=np.float64) + lexical_weight * (shares / best if best > 0 else shares)


def stored_hybrid(encoder: Encoder) -> Hybrid | None:
    """Return how to fuse a bi-encoder's scores with BM25's, as its folder says.

    ::

        {"hybrid": {"method": "weighted", "lexical_weight": 0.3}}

    :param encoder: only a ``BiEncoder`` made of an embedded model or a folder can store anything.
    :returns: ``None`` if nothing is stored.
    :raises ModelError: if the file is damaged.
    """
    config = encoder.config()
    if config.get("type") != "BiEncoder":
        return None
    content = read_stored(config["model"])
    if "hybrid" not in content:
        return None
    about = content["hybrid"]
    try:
        if not isinstance(about, dict) or not about.keys() <= {"method", "lexical_weight"}:
            raise ValueError(f"'hybrid' must hold 'method' and 'lexical_weight', got {about!r:.80}.")
        return Hybrid(**about)
    except ValueError as error:
        raise ModelError(f"{SETTINGS_FILE} of {config['model']} is damaged: {error}") from error
