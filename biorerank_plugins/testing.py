"""For tests of code that reranks: a model that gives the logits it is told to, in no time and without weights."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from biorerank_plugins.errors import ScoringError

__all__ = ["Call", "ScriptedScorer"]


class Call(NamedTuple):
    """What a scorer was asked.

    :param query: as it arrives at the model, with its prefix.
    :param texts: as they arrive at the model, with prefix and template.
    :param thread: identity of the thread that asked, as :func:`threading.get_ident` gives it.
    """

    query: str
    texts: tuple[str, ...]
    thread: int


class ScriptedScorer:
    """A model for :class:`~biorerank_plugins.BioReranker` and every adapter whose logits are written down in a test.

    :param logits: logits by text, or a function of query and text. The function may raise, wait, or return what is not
        finite, to see what the code around it does.
    :param default: logit of a text that is not in the mapping; without it such a text is an error.
    :raises TypeError: if ``logits`` is neither.

    >>> from biorerank_plugins import BioReranker
    >>> scorer = ScriptedScorer({"Aspirin inhibits platelets.": 2.5, "Insulin lowers glucose.": -1.0})
    >>> ranking = BioReranker(scorer).rank("aspirin", ["Insulin lowers glucose.", "Aspirin inhibits platelets."])
    >>> [(ranked.input_index, ranked.logit) for ranked in ranking]
    [(1, 2.5), (0, -1.0)]
    >>> scorer.queries
    ['aspirin']
    """

    def __init__(
        self, logits: Mapping[str, float] | Callable[[str, str], float], *, default: float | None = None
    ) -> None:
        if not isinstance(logits, Mapping) and not callable(logits):
            given = type(logits).__name__
            raise TypeError(
                f"logits must be a mapping of texts to numbers, or a function of query and text, got {given}."
            )
        self._logits = logits
        self._default = default
        self.calls: list[Call] = []

    @property
    def queries(self) -> list[str]:
        """The query of each call, in order."""
        return [call.query for call in self.calls]

    @property
    def texts(self) -> list[str]:
        """The texts of all calls, in order."""
        return [text for call in self.calls for text in call.texts]

    @property
    def threads(self) -> set[int]:
        """Threads that asked."""
        return {call.thread for call in self.calls}

    def logits(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return the logits of texts, and remember the call.

        :param query: the query.
        :param texts: texts of the passages.
        :raises ScoringError: if a text is not in the mapping and there is no default.
        """
        self.calls.append(Call(query, tuple(texts), threading.get_ident()))
        return [self._logit(query, text) for text in texts]

    def _logit(self, query: str, text: str) -> float:
        if not isinstance(self._logits, Mapping):
            return self._logits(query, text)
        found = self._logits.get(text, self._default)
        if found is None:
            raise ScoringError(
                f"No logit is written down for the text {text!r}. Add it to the mapping, with the template's words if "
                "there are any, or give a default."
            )
        return found
