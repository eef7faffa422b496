"""The model of one reranker: loaded at the first use, with the caches that belong to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from biorerank_plugins import telemetry
from biorerank_plugins._common.forks import Lock
from biorerank_plugins.reranking.second_reader import SecondReader
from biorerank_plugins.runtime.calls import Call, Calls

if TYPE_CHECKING:
    from biorerank_plugins.scoring.cache import ScoreCache, ScoreCacheInfo
    from biorerank_plugins.scoring.load_options import LoadOptions
    from biorerank_plugins.scoring.scores import Scorer
    from biorerank_plugins.scoring.shared import SharedScorer


class ModelShare:
    """A share in a model; see :func:`~biorerank_plugins.scoring.shared.shared_scorer`.

    :param cache_bytes: memory for scores.
    :param calls: the reranker's; when they are closed, nothing is loaded any more.
    """

    def __init__(self, options: LoadOptions, cache_bytes: int, calls: Calls) -> None:
        self.scorer: Scorer | None = None
        self.second_reader = SecondReader(options)
        """A bi-encoder, for candidates that another first stage found."""
        self._options = options
        self._calls = calls
        self._cache_bytes = cache_bytes
        self.cache: ScoreCache | None = None
        """Scores that were computed before, where memory was given to them."""
        self.model_hash = b""
        """Hash of everything that a score depends on beside its pair; known where there is a cache."""
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

    def cache_info(self) -> ScoreCacheInfo:
        """Return how well the cache of scores does."""
        from biorerank_plugins.scoring.cache import ScoreCacheInfo

        return ScoreCacheInfo(0, 0, 0, 0, self._cache_bytes) if self.cache is None else self.cache.info()

    def close(self) -> None:
        """Give the share back."""
        with self._lock:
            shared, self._shared = self._shared, None
            self.scorer = self.cache = None
        self.second_reader.close()
        if shared is not None:
            shared.leave(self)

    @telemetry.staged("load")
    def _load(self) -> Scorer:
        from biorerank_plugins.scoring.cache import ScoreCache
        from biorerank_plugins.scoring.shared import shared_scorer  # torch is loaded here, not with the package

        shared = shared_scorer(self._options)
        scorer = shared.open(self)
        cache = ScoreCache(self._cache_bytes) if self._cache_bytes else None
        self.model_hash = b"" if cache is None else shared.fingerprint()
        with self._lock:
            self._shared, self.scorer, self.cache = shared, scorer, cache
        if self._calls.closed:  # while it was loading
            self.close()
            self._calls.refuse_closed()
        return scorer
