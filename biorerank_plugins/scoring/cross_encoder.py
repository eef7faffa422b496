"""Scorers over sentence-transformers cross-encoders, and over any object with a ``logits`` method."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from biorerank_plugins import telemetry
from biorerank_plugins._common.forks import Lock
from biorerank_plugins.errors import ScoringError
from biorerank_plugins.runtime.calls import CLOSED, Watch
from biorerank_plugins.runtime.computing import computing
from biorerank_plugins.runtime.devices import refuse_in_child
from biorerank_plugins.runtime.memory import Logits, is_out_of_memory, release_cached_memory
from biorerank_plugins.runtime.tokens import EncodedPair, PairTokenizer
from biorerank_plugins.scoring.scores import PairScorer, PairScores, Scorer
from biorerank_plugins.scoring.worker import BatchWorker

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sentence_transformers import CrossEncoder

    from biorerank_plugins.scoring.torch_backend import Backend
    from biorerank_plugins.text.windows import Span, WindowedText, Windows

logger = logging.getLogger(__name__)

_PAIRS_AT_ONCE = 1_024  # that are tokenised between two looks at the clock, or while a device computes those before


class TokenScorer(Scorer):
    """The fast path: our own pairs, token-budget batches, one backend."""

    def __init__(
        self, name: str, tokenizer: PairTokenizer, backend: Backend, activation: Any, max_batch_tokens: int
    ) -> None:
        super().__init__(name, activation)
        self._tokenizer = tokenizer
        # A token is at least one character.
        self.surely_fits = tokenizer.least_room
        self._backend: Backend | None = backend
        # On a CPU all pairs of a request are sorted by length; a device that computes meanwhile gets them in parts.
        self._in_parts = backend.device.type != "cpu"

        def forward(pairs: Sequence[EncodedPair]) -> Logits:
            return computing(partial(backend.forward, pairs), backend.device)

        self._worker = BatchWorker(forward, max_batch_tokens, padded=backend.padded, merge=self._in_parts)
        self._process = os.getpid()

    @property
    def dtype(self) -> torch.dtype:
        """Precision the model computes in."""
        return self._open().dtype

    @property
    def device(self) -> torch.device:
        """Device the model runs on."""
        return self._open().device

    def spans(self, items: Sequence[tuple[str, WindowedText]], windows: Windows) -> list[list[Span]]:
        """Return the windows that the tokenizer finds."""
        return self._tokenizer.spans(items, windows)

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Return how many tokens texts have, without special ones."""
        return sum(map(len, self._tokenizer.texts.tokenise(texts)))

    def score(self, pairs: Sequence[tuple[str, str]], watch: Watch) -> PairScores:
        """Return the scores of pairs, from the thread that all callers share."""
        refuse_in_child(self.device, self._process)
        with self._worker.submit(watch) as request:
            encoded: list[EncodedPair] = []
            for first in range(0, len(pairs), _PAIRS_AT_ONCE):
                watch(request.done)
                with telemetry.stage("tokenise"):
                    part = self._tokenizer.encode(pairs[first : first + _PAIRS_AT_ONCE])
                encoded += part
                if self._in_parts:
                    self._worker.add(request, part)
            if not self._in_parts:
                self._worker.add(request, encoded)
            cut = np.array([pair.truncated for pair in encoded], np.bool_)
            query_cut = np.array([pair.query_truncated for pair in encoded], np.bool_)
            with telemetry.stage("score", pairs=len(pairs)):
                return PairScores(self._worker.result(request), cut, query_cut)

    def close(self) -> None:
        """Drop the weights."""
        self._backend = None
        self._worker.close()

    def _open(self) -> Backend:
        if self._backend is None:
            raise RuntimeError(CLOSED)
        return self._backend


class CrossEncoderScorer(Scorer):
    """The general path: ``CrossEncoder.predict`` itself, for families that the token path does not cover.

    Modular and causal-LM cross-encoders, prompts, and tokenizers that build pairs in their own way run here. What was
    truncated is not known: both flags are False.
    """

    def __init__(self, name: str, model: CrossEncoder) -> None:
        super().__init__(name, model.activation_fn)
        self._model: CrossEncoder | None = model
        self._exact: CrossEncoder | None = None
        # CrossEncoder sets truncation state on a tokenizer that all threads share.
        self._lock = Lock()
        self._batch_size = 32  # what predict takes by itself
        self._process = os.getpid()

    def score(self, pairs: Sequence[tuple[str, str]], watch: Watch) -> PairScores:
        """Return the scores of pairs; callers take turns."""
        logits = np.empty(len(pairs), np.float32)
        # Longest first, for little padding, as predict does; a batch a call, so that others compute in between.
        order = sorted(range(len(pairs)), key=lambda position: -sum(map(len, pairs[position])))
        done = 0
        while done < len(pairs):
            watch(done)
            watch.call.wait_for(self._lock)
            try:
                model = self._model
                if model is None:
                    raise RuntimeError(CLOSED)
                refuse_in_child(model.device, self._process)
                part = order[done : done + self._batch_size]
                predict = partial(self._predict, model, [pairs[position] for position in part])
                with telemetry.stage("score"):
                    logits[part] = computing(predict, model.device)
                done += len(part)
            finally:
                self._lock.release()
        return _untruncated(logits)

    def _predict(self, model: CrossEncoder, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        logits = self._in_batches(model, pairs)
        half = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32) != torch.float32
        if np.isfinite(logits).all() or not half:
            return logits
        logger.warning("A logit was not finite; the passages are scored again in fp32.")
        telemetry.count("fallbacks")
        if self._exact is None:
            self._exact = copy.deepcopy(model).float()
        return self._predict(self._exact, pairs)

    def _in_batches(self, model: CrossEncoder, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        inputs: Any = [list(pair) for pair in pairs]
        while True:
            try:
                logits: NDArray[np.float32] = model.predict(
                    inputs,
                    batch_size=self._batch_size,
                    activation_fn=torch.nn.Identity(),
                    show_progress_bar=False,
                )
                return logits
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if self._batch_size == 1:
                    raise ScoringError(f"Not even one pair fits into memory: {error}") from error
            self._batch_size //= 2
            logger.warning("Out of memory; going on with %d pairs a batch.", self._batch_size)
            telemetry.count("memory.halvings")
            release_cached_memory()

    def close(self) -> None:
        """Drop the weights."""
        self._model = self._exact = None


class PairScorerAdapter(Scorer):
    """A user's :class:`~biorerank_plugins.PairScorer` as a scorer; its scores are the sigmoid of its logits."""

    def __init__(self, scorer: PairScorer) -> None:
        super().__init__(type(scorer).__name__, torch.nn.Sigmoid())
        self._scorer = scorer

    @telemetry.staged("score")
    def score(self, pairs: Sequence[tuple[str, str]], watch: Watch) -> PairScores:
        """Return the scores of pairs, asking the object once for each run of pairs with the same query."""
        logits = np.empty(len(pairs), dtype=np.float32)
        start = 0
        while start < len(pairs):
            watch(start)
            query = pairs[start][0]
            stop = next((i for i in range(start, len(pairs)) if pairs[i][0] != query), len(pairs))
            given = np.asarray(self._scorer.logits(query, [text for _, text in pairs[start:stop]]), dtype=np.float64)
            if given.shape != (stop - start,):
                raise ScoringError(
                    f"{self.name}.logits gave values of shape {given.shape} for {stop - start} texts; expected one "
                    "number a text."
                )
            with np.errstate(over="ignore"):  # beyond fp32 is infinite, which is refused with the passage's name
                logits[start:stop] = given
            start = stop
        return _untruncated(logits)


def _untruncated(logits: NDArray[np.float32]) -> PairScores:
    nothing = np.zeros(len(logits), dtype=np.bool_)
    return PairScores(logits, nothing, nothing)
