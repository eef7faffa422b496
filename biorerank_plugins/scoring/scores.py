"""What scoring takes and gives: the plug point :class:`PairScorer`, and scores of pairs and of windows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from biorerank_plugins.runtime.calls import Watch
    from biorerank_plugins.text.windows import Aggregation, Span, WindowedText, Windows


@runtime_checkable
class PairScorer(Protocol):
    """Anything that gives a logit to a (query, text) pair; an object of this form can be a reranker's ``model``.

    >>> class Overlap:
    ...     def logits(self, query, texts):
    ...         return [float(len(set(query.split()) & set(text.split()))) for text in texts]
    >>> isinstance(Overlap(), PairScorer)
    True
    """

    def logits(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """Return one finite logit for each text, higher for more relevant ones.

        :param query: the query.
        :param texts: texts of the passages; may be empty.
        """
        ...


@dataclass(frozen=True, slots=True)
class PairScores:
    """What scoring gives, one entry a pair."""

    logits: NDArray[np.float32]
    truncated: NDArray[np.bool_]  # whether a part of the passage was not read
    query_truncated: NDArray[np.bool_]  # whether a part of the query was not read

    def __getitem__(self, part: slice | list[int]) -> PairScores:
        """Return the scores of some of the pairs."""
        return PairScores(self.logits[part], self.truncated[part], self.query_truncated[part])


class Scorer(ABC):
    """What the reranker works with: many pairs at once, of one or several queries.

    Unless a subclass knows what the model cuts, passages are read as they come, and words are counted.

    :param name: name or folder of the model.
    :param activation: the model's own, a torch module.
    """

    surely_fits: int | None = None
    """A passage of so many characters is never cut; ``None`` if what is cut is not known here."""

    def __init__(self, name: str, activation: Any) -> None:
        self.name = name
        self._activation = activation

    def spans(self, items: Sequence[tuple[str, WindowedText]], windows: Windows) -> list[list[Span]]:
        """Return the windows in which long passages are read, as spans of their body; none for one read as a whole."""
        return [[(0, len(text.body))] for _, text in items]

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Return how many tokens texts have, without special ones; words, where the model tokenises in its own way."""
        return sum(len(text.split()) for text in texts)

    @abstractmethod
    def score(self, pairs: Sequence[tuple[str, str]], watch: Watch) -> PairScores:
        """Return the scores of pairs, in the same order."""

    def activate(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the model's own activation of logits: what ``CrossEncoder.predict`` gives."""
        import torch

        # A copy of shape [n, 1], as there: an activation may work in place or look at the last dimension. A sigmoid in
        # double precision: in fp32 the last entries of a tensor are computed otherwise than those before, and equal
        # logits would have scores that differ in the last bits.
        dtype = torch.float64 if isinstance(self._activation, torch.nn.Sigmoid) else torch.float32
        with torch.inference_mode():
            values = self._activation(torch.tensor(logits, dtype=dtype).unsqueeze(1))
        result: NDArray[np.float32] = values.reshape(-1).float().cpu().numpy()
        return result

    def close(self) -> None:
        """Give the weights back; an object of the caller's keeps them."""
        return


def fold(scores: PairScores, counts: Sequence[int], aggregation: Aggregation | None) -> tuple[PairScores, list[int]]:
    """Make one entry a passage of one entry a window.

    :param scores: of all windows, passage after passage.
    :param counts: windows of each passage, at least 1.
    :param aggregation: how the logits become one.
    :returns: the scores a passage (a passage is truncated if one of its windows is), and which window won.
    """
    import numpy as np

    if len(scores.logits) == len(counts):  # one window each, as nearly always
        return scores, [0] * len(counts)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(int)
    logits = np.empty(len(counts), dtype=np.float32)
    best: list[int] = []
    for number, (start, count) in enumerate(zip(starts, counts, strict=True)):
        own = scores.logits[start : start + count]
        best.append(0 if aggregation == "first" else int(own.argmax()))
        top2 = aggregation == "mean-top-2" and count > 1
        logits[number] = np.sort(own)[-2:].mean() if top2 else own[best[-1]]
    any_of = np.logical_or.reduceat
    return PairScores(logits, any_of(scores.truncated, starts), any_of(scores.query_truncated, starts)), best
