"""Scores of texts and pairs: where :class:`~biorerank_plugins.BioReranker` stands in for a ``CrossEncoder``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from biorerank_plugins._common.checks import check_query, string
from biorerank_plugins.reranking.order import refuse_non_finite
from biorerank_plugins.runtime.calls import Call
from biorerank_plugins.text.templates import wellformed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from biorerank_plugins.reranking.model_share import ModelShare
    from biorerank_plugins.reranking.pipeline import RankPipeline
    from biorerank_plugins.runtime.calls import Calls

__all__ = ["PairInterface"]


class PairInterface:
    """Scores without a ranking: no template, no first stage, no calibration."""

    _calls: Calls
    _pipeline: RankPipeline
    _share: ModelShare

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return the model's score of each text, in the same order.

        :param query: the query.
        :param texts: the texts; the template does not apply, the prefixes do.
        :returns: the model's own activation of the logits; :attr:`RankedPassage.score` where nothing is fused.
        :raises ValueError: if the query is empty.
        :raises ScoringError: if a text has no finite logit; its position stands for its id.
        """
        check_query(query)
        if isinstance(texts, str):
            raise TypeError("score() takes a list of texts, got one string. Put it in a list.")
        return [float(value) for value in self.predict([(query, text) for text in texts])]

    def predict(self, pairs: Sequence[tuple[str, str]], *, show_progress: bool = False) -> NDArray[np.float32]:
        """Return the model's score of each pair, as ``CrossEncoder.predict`` does.

        :param pairs: (query, text) pairs; one single pair gives one number, as there.
        :param show_progress: draw a progress bar on standard error.
        :returns: float32 [n].
        :raises ValueError: if a query is empty.
        :raises TypeError: if an entry is no pair of strings.
        :raises ScoringError: if a pair has no finite logit; its position stands for its id.
        """
        if len(pairs) == 2 and all(isinstance(part, str) for part in pairs):
            single: NDArray[np.float32] = self.predict([(str(pairs[0]), str(pairs[1]))])[0]
            return single
        with self._calls.begin() as call:
            checked = [_pair(pair) for pair in pairs]
            self._calls.take(call, len(checked))
            logits = self._pipeline.scores(checked, call, show_progress).logits
            refuse_non_finite([str(position) for position in range(len(pairs))], logits)
            return self._share.open(call).activate(logits)

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Return how many tokens texts have, without special ones; loads the model.

        :param texts: the texts, as they are: nothing is put before them.
        :returns: the number of tokens; of words, for a model that tokenises in its own way.
        """
        return self._share.open(Call()).count_tokens([wellformed(text) for text in texts])


def _pair(pair: Sequence[str]) -> tuple[str, str]:
    if isinstance(pair, str) or len(pair) != 2:
        raise TypeError(f"Expected (query, text) pairs, got {pair!r:.80}.")
    query, text = pair
    return check_query(query), string("A text", text)
