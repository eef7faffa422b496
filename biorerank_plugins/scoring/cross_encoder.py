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
from biorerank_plugins._common.forks import Lock, computing
from biorerank_plugins.errors import ScoringError
from biorerank_plugins.runtime.calls import CLOSED, Call, Watch
from biorerank_plugins.runtime.devices import refuse_in_child
from biorerank_plugins.runtime.memory import is_out_of_memory, release_cached_memory
from biorerank_plugins.runtime.tokens import EncodedPair, PairTokenizer
from biorerank_plugins.scoring.scores import Check, PairScorer, PairScores
from biorerank_plugins.scoring.worker import BatchWorker

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sentence_transformers import CrossEncoder

    from biorerank_plugins.scoring.backends import Backend
    from biorerank_plugins.text.windows import WindowedText, Windows

logger = logging.getLogger(__name__)

_PAIRS_AT_ONCE = 1_024  # that are tokenised between two looks at the clock, or while a device computes those before


class TokenScorer:
    """The fast path: our own pairs, token-budget batches, one backend.

    :param name: name or folder of the model.
    :param activation: the model's activation, a torch module.
    """

    def __init__(
        self, name: str, tokenizer: PairTokenizer, backend: Backend, activation: Any, max_batch_tokens: int
    ) -> None:
        self.name = name
        self._tokenizer = tokenizer
        self._backend: Backend | None = backend
        self._activation = activation
        # On a CPU all pairs of a request are sorted by length; a device that computes meanwhile gets them in parts.
        self._in_parts = backend.device.type != "cpu"
        self._worker = BatchWorker(
            backend.forward, max_batch_tokens, padded=getattr(backend, "padded", True), merge=self._in_parts
        )
        self._process = os.getpid()

    @property
    def dtype(self) -> torch.dtype:
        """Precision the model computes in."""
        return self._open().dtype

    @property
    def device(self) -> torch.device:
        """Device the model runs on."""
        return self._open().device

    @property
    def surely_fits(self) -> int | None:
        """A token is at least one character: a passage of no more characters than there is room for tokens."""
        return self._tokenizer.least_room

    def spans(self, items: Sequence[tuple[str, WindowedText]], windows: Windows) -> list[list[tuple[int, int]]]:
        """Return windows; see :class:`~biorerank_plugins.scoring.scores.Scorer`."""
        return self._tokenizer.spans(items, windows)

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Return how many tokens texts have, without special ones."""
        return sum(map(len, self._tokenizer.texts.tokenise(texts)))

    def score(self, pairs: Sequence[tuple[str, str]], check: Check) -> PairScores:
        """Return the scores of pairs; see :class:`~biorerank_plugins.scoring.scores.Scorer`."""
        refuse_in_child(self._open().device, self._process)
        with self._worker.submit(check) as stream:
            encoded: list[EncodedPair] = []
            for first in range(0, len(pairs), _PAIRS_AT_ONCE):
                check(stream.request.done)
                with telemetry.stage("tokenise"):
                    part = self._tokenizer.encode(pairs[first : first + _PAIRS_AT_ONCE])
                encoded += part
                if self._in_parts:
                    stream.add(part)
            if not self._in_parts:
                stream.add(encoded)
            cut = np.array([pair.truncated for pair in encoded], np.bool_)
            query_cut = np.array([pair.query_truncated for pair in encoded], np.bool_)
            with telemetry.stage("score", pairs=len(pairs)):
                return PairScores(stream.result(), cut, query_cut)

    def activate(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the model's own activation of logits."""
        return _activate(self._activation, logits)

    def close(self) -> None:
        """Drop the weights."""
        self._backend = None
        self._worker.close()

    def _open(self) -> Backend:
        if self._backend is None:
            raise RuntimeError(CLOSED)
        return self._backend


class _OneWindow:
    """Passages are read as they come."""

    @property
    def surely_fits(self) -> int | None:
        """Return ``None``: what is cut is not known here, and so there are no windows."""
        return None

    def spans(self, items: Sequence[tuple[str, WindowedText]], windows: Windows) -> list[list[tuple[int, int]]]:
        """Return one window a passage."""
        return [[(0, len(text.body))] for _, text in items]

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Return the number of words: tokens are not known here."""
        return sum(len(text.split()) for text in texts)


class CrossEncoderScorer(_OneWindow):
    """The general path: ``CrossEncoder.predict`` itself, for families that the token path does not cover.

    Modular and causal-LM cross-encoders, prompts, and tokenizers that build pairs in their own way run here. What was
    truncated is not known: both flags are False.

    :param name: name or folder of the model.
    :param model: the cross-encoder, not used by anyone else.
    """

    def __init__(self, name: str, model: CrossEncoder) -> None:
        self.name = name
        self._model: CrossEncoder | None = model
        self._exact: CrossEncoder | None = None
        self._activation = model.activation_fn
        # CrossEncoder sets truncation state on a tokenizer that all threads share.
        self._lock = Lock()
        self._batch_size = 32  # what predict takes by itself
        self._process = os.getpid()

    def score(self, pairs: Sequence[tuple[str, str]], check: Check) -> PairScores:
        """Return the scores of pairs; see :class:`~biorerank_plugins.scoring.scores.Scorer`."""
        call = check.call if isinstance(check, Watch) else Call()
        logits: list[NDArray[np.float32]] = []
        step = 256  # often enough to look at the clock, seldom enough to keep batches full
        for start in range(0, len(pairs), step):
            check(start)
            call.wait_for(self._lock)
            try:
                model = self._model
                if model is None:
                    raise RuntimeError(CLOSED)
                refuse_in_child(model.device, self._process)
                with telemetry.stage("score"):
                    logits.append(computing(partial(self._predict, model, pairs[start : start + step])))
            finally:
                self._lock.release()
        return _untruncated(np.concatenate(logits) if logits else np.empty(0, np.float32))

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

    def activate(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the model's own activation of logits."""
        return _activate(self._activation, logits)

    def close(self) -> None:
        """Drop the weights."""
        self._model = self._exact = None


class PairScorerAdapter(_OneWindow):
    """A user's :class:`~biorerank_plugins.PairScorer` as a scorer; its scores are the sigmoid of its logits."""

    def __init__(self, scorer: PairScorer) -> None:
        self.name = type(scorer).__name__
        self._scorer = scorer

    @telemetry.staged("score")
    def score(self, pairs: Sequence[tuple[str, str]], check: Check) -> PairScores:
        """Return the scores of pairs, asking the object once for each run of pairs with the same query."""
        logits = np.empty(len(pairs), dtype=np.float32)
        start = 0
        while start < len(pairs):
            check(start)
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

    def activate(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the sigmoid."""
        return _activate(torch.nn.Sigmoid(), logits)

    def close(self) -> None:
        """Do nothing: the object belongs to the caller."""


def _untruncated(logits: NDArray[np.float32]) -> PairScores:
    nothing = np.zeros(len(logits), dtype=np.bool_)
    return PairScores(logits, nothing, nothing)


@torch.inference_mode()
def _activate(activation: Any, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    # A copy of shape [n, 1], as in CrossEncoder.predict: an activation may work in place or look at the last dimension.
    # A sigmoid in double precision: in fp32 the last entries of a tensor are computed otherwise than those before, and
    # equal logits would have scores that differ in the last bits.
    dtype = torch.float64 if isinstance(activation, torch.nn.Sigmoid) else torch.float32
    values = torch.tensor(logits, dtype=dtype).unsqueeze(1)
    result: NDArray[np.float32] = activation(values).reshape(-1).float().cpu().numpy()
    return result
