"""The model of one reranker: loaded at the first use, with the caches that belong to it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from biorerank_plugins import telemetry
from biorerank_plugins._common.forks import Lock
from biorerank_plugins.models.answering import AnswerModel, EvidenceModel
from biorerank_plugins.models.calibration import Calibration
from biorerank_plugins.models.stored import (
    StoredFusion,
    StoredReader,
    stored_answering,
    stored_calibration,
    stored_evidence,
    stored_fusion,
    stored_rank_weight,
    stored_second_reader,
)
from biorerank_plugins.reranking.second_reader import SecondReader
from biorerank_plugins.runtime.calls import Call, Calls

if TYPE_CHECKING:
    from biorerank_plugins.scoring.cache import ScoreCache, ScoreCacheInfo
    from biorerank_plugins.scoring.load_options import LoadOptions
    from biorerank_plugins.scoring.scores import Scorer
    from biorerank_plugins.scoring.shared import SharedScorer


class StoredValues:
    """Calibration and fusion of a model; a search must not wait for the disk, so each is read once.

    :param model: what the reranker was given as ``model``.
    """

    def __init__(self, model: object) -> None:
        self._model = model

    @cached_property
    def calibration(self) -> Calibration:
        """How logits become probabilities; the plain sigmoid unless something is stored."""
        return stored_calibration(self._model)

    @cached_property
    def fusion(self) -> Mapping[str, StoredFusion]:
        """How the scores of first stages enter the order, by their names."""
        return stored_fusion(self._model)

    @cached_property
    def rank_weight(self) -> float | None:
        """Weight of the rank that a first stage of unknown scale gives."""
        return stored_rank_weight(self._model)

    @cached_property
    def second_reader(self) -> StoredReader | None:
        """The bi-encoder that reads what a first stage of unknown scale found."""
        return stored_second_reader(self._model)

    @cached_property
    def answering(self) -> AnswerModel | None:
        """What tells whether the answer is among the candidates."""
        return stored_answering(self._model)

    @cached_property
    def evidence(self) -> EvidenceModel:
        """What the values of sentences mean."""
        return stored_evidence(self._model)

    def calibration_for(self, first_stage: str | None) -> Calibration:
        """Return how the value that orders becomes a probability.

        :param first_stage: whose stored weight is used; ``None`` if none is.
        """
        own = None if first_stage is None else self.fusion[first_stage].calibration
        return self.calibration if own is None else own

    def read(self) -> None:
        """Read everything now.

        :raises ModelError: if what is stored is damaged.
        """
        _ = self.calibration, self.fusion, self.rank_weight, self.second_reader, self.answering, self.evidence


class ModelShare:
    """A share in a model; see :func:`~biorerank_plugins.scoring.shared.shared_scorer`.

    :param options: the model, and how it is run.
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
