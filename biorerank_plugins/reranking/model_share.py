"""The model of one reranker: loaded at the first use, with the cache of its scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from biorerank_plugins import telemetry
from biorerank_plugins._common.forks import Lock
from biorerank_plugins.runtime.calls import Call, Calls

if TYPE_CHECKING:
    from biorerank_plugins.scoring.cache import ScoreCache, ScoreCacheInfo
    from biorerank_plugins.scoring.scores import PairScores, Scorer
    from biorerank_plugins.scoring.shared import SharedScorer

__all__ = ["LoadedModel"]

Pairs: TypeAlias = "list[tuple[str, str]]"


class LoadedModel:
    """A share in a model; see :func:`~biorerank_plugins.scoring.shared.shared_scorer`.

    :param model: what the reranker was given as ``model``.
    :param options: those of :func:`~biorerank_plugins.scoring.loading.load_scorer`.
    :param cache_bytes: memory for scores.
    :param calls: the reranker's; when they are closed, nothing is loaded any more.
    """

    def __init__(self, model: Any, options: Mapping[str, Any], cache_bytes: int, calls: Calls) -> None:
        self.scorer: Scorer | None = None
        self._model = model
        self._options = options
        self._calls = calls
        self._cache_bytes = cache_bytes
        self._cache: ScoreCache | None = None
        self._hash = b""
        self._shared: SharedScorer | None = None
        self._lock = Lock()  # held for moments only
        self._loading = Lock()  # held while the model is loaded

    def open(self, call: Call) -> Scorer:
        """Return the scorer; load it first if need be.

        :param call: how long somebody waits for another thread that loads it.
        :raises ModelError: if it cannot be loaded.
        :raises RuntimeError: if the reranker is closed.
        """
        call.wait_for(self._loading)
        try:
            self._calls.refuse_closed()
            return self._load() if self.scorer is None else self.scorer
        finally:
            self._loading.release()

    def scores(self, pairs: Pairs, compute: Callable[[Pairs], PairScores]) -> PairScores:
        """Return the scores of pairs, from the cache where there is one.

        :param pairs: different pairs.
        :param compute: gives the scores of pairs, with the scorer that is open.
        """
        cache = self._cache
        return compute(pairs) if cache is None else cache.scores(self._hash, pairs, compute)

    def cache_info(self) -> ScoreCacheInfo:
        """Return how well the cache of scores does."""
        from biorerank_plugins.scoring.cache import ScoreCacheInfo

        return ScoreCacheInfo(0, 0, 0, 0, self._cache_bytes) if self._cache is None else self._cache.info()

    def close(self) -> None:
        """Give the share back."""
        with self._lock:
            shared, self._shared = self._shared, None
            self.scorer = self._cache = None
        if shared is not None:
            shared.leave(self)

    @telemetry.staged("load")
    def _load(self) -> Scorer:
        from biorerank_plugins.scoring.cache import ScoreCache
        from biorerank_plugins.scoring.shared import shared_scorer  # torch is loaded here, not with the package

        shared = shared_scorer(self._model, self._options)
        scorer = shared.open(self)
        cache = ScoreCache(self._cache_bytes) if self._cache_bytes else None
        self._hash = b"" if cache is None else shared.fingerprint()
        with self._lock:
            self._shared, self.scorer, self._cache = shared, scorer, cache
        if self._calls.closed:  # while it was loading
            self.close()
            self._calls.refuse_closed()
        return scorer
