"""LangChain's own cross-encoders as models of a reranker."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any


def is_cross_encoder(model: object) -> bool:
    """Return whether a model is a ``BaseCrossEncoder`` of LangChain."""
    # By name: the class was in langchain-classic before it was in langchain-core.
    return any(base.__name__ == "BaseCrossEncoder" for base in type(model).__mro__)


class CrossEncoderScorer:
    """A ``BaseCrossEncoder`` of LangChain as the scorer of a reranker.

    :param model: the cross-encoder.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._lock = threading.Lock()  # most of them share a tokenizer that is not safe to share

    def logits(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """Return the scores of texts, on whatever scale the model has."""
        with self._lock:
            return list(self._model.score([(query, text) for text in texts]))
