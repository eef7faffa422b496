"""Scores of texts and pairs: where :class:`~biorerank_plugins.BioReranker` stands in for a ``CrossEncoder``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from biorerank_plugins._common.checks import check_query, in_order, string, whole_number
from biorerank_plugins.reranking.order import refuse_non_finite
from biorerank_plugins.runtime.calls import Call
from biorerank_plugins.text.templates import wellformed

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from biorerank_plugins.reranking.model_share import ModelShare
    from biorerank_plugins.reranking.pipeline import RankPipeline
    from biorerank_plugins.runtime.calls import Calls
    from biorerank_plugins.scoring.cache import ScoreCacheInfo


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
        return [
            float(value) for value in self._predicted([(query, text) for text in in_order("a list of texts", texts)])
        ]

    def predict(
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        show_progress: bool = False,
        show_progress_bar: bool | None = None,
        batch_size: int | None = None,
        activation_fn: Callable[[torch.Tensor], torch.Tensor] | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        **theirs: object,
    ) -> Any:
        """Return the model's score of each pair, as ``CrossEncoder.predict`` does, and by its keywords.

        A pair that fits the model is read as it is there. One that is too long loses the end of its text, and of its
        query beyond ``query_max_length``; there the longer of both is cut.

        :param pairs: (query, text) pairs; one single pair gives one number, as there.
        :param show_progress: draw a progress bar on standard error.
        :param show_progress_bar: the same, by the name it has there.
        :param batch_size: taken and not needed: batches are made by tokens (``max_batch_tokens``), and no score
            depends on them.
        :param activation_fn: from logits to scores, instead of the model's own.
        :param convert_to_numpy: False gives a list of tensors.
        :param convert_to_tensor: True gives one tensor.
        :param theirs: other keywords of ``CrossEncoder.predict``: refused, with what to use instead.
        :returns: float32 [n], in the form that is asked for.
        :raises ValueError: if a query is empty.
        :raises TypeError: if an entry is no pair of strings, or for a keyword that means nothing here.
        :raises ScoringError: if a pair has no finite logit; its position stands for its id.
        """
        _refuse(theirs)
        if batch_size is not None:
            whole_number("batch_size", batch_size)
        given = list(in_order("a list of (query, text) pairs", pairs))
        single = len(given) == 2 and all(isinstance(part, str) for part in given)
        progress = show_progress or bool(show_progress_bar)
        scores = self._predicted([tuple(given)] if single else given, progress, activation_fn)
        if convert_to_tensor or not convert_to_numpy:
            import torch

            tensor = torch.from_numpy(scores)
            return (tensor if convert_to_tensor else list(tensor)) if not single else tensor[0]
        return scores[0] if single else scores

    def _predicted(
        self,
        pairs: Sequence[Any],
        show_progress: bool = False,
        activation: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> NDArray[np.float32]:
        with self._calls.begin() as call:
            checked = [_pair(pair) for pair in pairs]
            self._calls.take(call, len(checked))
            logits = self._pipeline.scores(checked, call, show_progress).logits
            refuse_non_finite([str(position) for position in range(len(pairs))], logits)
            if activation is None:
                return self._share.open(call).activate(logits)
        import torch

        scores: NDArray[np.float32] = activation(torch.from_numpy(logits)).float().numpy()
        return scores

    def cache_info(self) -> ScoreCacheInfo:
        """Return how many scores were found in the cache of ``cache_bytes``, and what it holds."""
        return self._share.cache_info()

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Return how many tokens texts have, without special ones; words, for a model that tokenises in its own way.

        :param texts: the texts, as they are: nothing is put before them.
        """
        return self._share.open(Call()).count_tokens([wellformed(text) for text in texts])


_INSTEAD = {
    "device": "give it to BioReranker(device=…)",
    "prompt": "use BioReranker(query_prefix=…)",
    "prompt_name": "use BioReranker(query_prefix=…)",
    "pool": "several processes are one BioReranker each",
    "chunk_size": "batches are made by tokens, BioReranker(max_batch_tokens=…)",
}


def _refuse(theirs: Mapping[str, object]) -> None:
    """Refuse what ``CrossEncoder.predict`` takes and means nothing here; one label has no softmax."""
    for name, value in theirs.items():
        if value is not None and name != "apply_softmax":
            raise TypeError(f"predict() does not take {name!r}{': ' + _INSTEAD[name] if name in _INSTEAD else ''}.")


def _pair(pair: Sequence[str]) -> tuple[str, str]:
    if isinstance(pair, str) or len(pair) != 2:
        raise TypeError(f"Expected (query, text) pairs, got {pair!r:.80}.")
    query, text = pair
    return check_query(query), string("A text", text)
