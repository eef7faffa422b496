"""The models of one reranker, each loaded at its first use, with the cache that belongs to them.

Beside the cross-encoder there may be a second reader: the bi-encoder's opinion of candidates that another first stage
found. The two err in different places, and the sum of both orders better than either, most of all on questions unlike
those that they were trained on. Embedding candidates here takes as long again as scoring them:
``fusion="second-reader"`` (``benchmarks/quality/second_reader.py`` measures it).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np

from biorerank_plugins import telemetry
from biorerank_plugins._common.forks import Lock
from biorerank_plugins.reranking.request import RankRequest
from biorerank_plugins.runtime.calls import Call, Calls
from biorerank_plugins.scoring.cache import ScoreCache, ScoreCacheInfo
from biorerank_plugins.text.templates import wellformed

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.encoder import BiEncoder
    from biorerank_plugins.scoring.load_options import LoadOptions
    from biorerank_plugins.scoring.scores import Scorer
    from biorerank_plugins.scoring.shared import SharedScorer

_AT_ONCE = 128  # passages embedded before it is asked again whether anybody waits

_SHARED: WeakValueDictionary[tuple[str, ...], BiEncoder] = WeakValueDictionary()
_LOADING = Lock()


class SecondReader:
    """A bi-encoder that is loaded when it is first needed, and run as the reranker's model is; rerankers share it."""

    def __init__(self, options: LoadOptions) -> None:
        self._options = options
        self._encoder: BiEncoder | None = None

    @telemetry.staged("second_reader")
    def cosines(self, encoder: str, requests: Sequence[RankRequest], call: Call) -> list[list[float]]:
        """Return the inner product of each request's query with each of its candidates that are scored.

        Passages that come in several requests are embedded once.
        """
        model = self._open(encoder, call)
        every = {(one.passage.title, one.passage.text): one.passage for request in requests for one in request.scored()}
        place = {key: n for n, key in enumerate(every)}
        passages = list(every.values())
        parts = []
        for start in range(0, len(passages), _AT_ONCE):
            call.check(f"{start} of {len(passages)} passages were embedded")
            parts.append(model.encode_passages(passages[start : start + _AT_ONCE]))
        vectors = np.concatenate(parts)
        queries = model.encode_queries([wellformed(request.query) for request in requests])
        rows = [[place[one.passage.title, one.passage.text] for one in request.scored()] for request in requests]
        return [(vectors[own] @ query).tolist() for query, own in zip(queries, rows, strict=True)]

    def close(self) -> None:
        """Forget the bi-encoder."""
        self._encoder = None

    def _open(self, name: str, call: Call) -> BiEncoder:
        from biorerank_plugins.first_stage.encoder import BiEncoder  # torch is loaded here, not with the package

        options = self._options
        is_bytes = str(options.dtype).removeprefix("torch.") == "int8"
        dtype = "auto" if options.dtype is None or is_bytes else options.dtype
        key = (name, str(options.device), str(dtype))
        call.wait_for(_LOADING)
        try:
            if self._encoder is None:
                self._encoder = _SHARED.get(key)
            if self._encoder is None:
                self._encoder = _SHARED[key] = BiEncoder(
                    name,
                    device=options.device,
                    dtype=dtype,
                    cache_folder=options.cache_folder,
                    local_files_only=options.local_files_only,
                )
            return self._encoder
        finally:
            _LOADING.release()


class ModelShare:
    """A share in a model; when the reranker's calls are closed, nothing is loaded any more."""

    def __init__(self, options: LoadOptions, cache_bytes: int, calls: Calls) -> None:
        self.scorer: Scorer | None = None
        self.second_reader = SecondReader(options)
        self._options = options
        self._calls = calls
        self._cache_bytes = cache_bytes
        self.cache: ScoreCache | None = None  # where memory was given to it
        self.model_hash = b""
        """Hash of everything that a score depends on beside its pair; known where there is a cache."""
        self._shared: SharedScorer | None = None
        self._lock = Lock()  # held for moments only
        self._loading = Lock()  # held while the model is loaded

    def open(self, call: Call) -> Scorer:
        """Return the scorer; load it first if need be. The call says how long it waits for another thread that does.

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
