"""What scoring takes and gives: the plug point :class:`PairScorer`, and scores of pairs and of windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from biorerank_plugins.text.windows import Aggregation, WindowedText, Windows

Check: TypeAlias = Callable[[int], None]
"""Called with the number of pairs done so far before each batch; it may raise to stop (time limits, progress bars)."""


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
    """What scoring gives, one entry a pair.

    :param logits: float32 [n].
    :param truncated: bool [n]: a part of the passage was not read.
    :param query_truncated: bool [n]: a part of the query was not read.
    """

    logits: NDArray[np.float32]
    truncated: NDArray[np.bool_]
    query_truncated: NDArray[np.bool_]

    def __getitem__(self, part: slice | list[int]) -> PairScores:
        """Return the scores of some of the pairs: a slice, or a list of positions."""
        return PairScores(self.logits[part], self.truncated[part], self.query_truncated[part])


class Scorer(Protocol):
    """What the reranker works with: many pairs at once, of one or several queries."""

    @property
    def name(self) -> str:
        """Name or folder of the model."""
        ...

    @property
    def surely_fits(self) -> int | None:
        """A passage of so many characters is never cut; ``None`` if what is cut is not known here."""
        ...

    def spans(self, items: Sequence[tuple[str, WindowedText]], windows: Windows) -> list[list[tuple[int, int]]]:
        """Return the windows in which long passages are read, as spans of their body; none for one read as a whole.

        :param items: (query, passage) pairs.
        :param windows: how far windows overlap.
        """
        ...

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Return how many tokens texts have, without special ones; words, where the model tokenises in its own way."""
        ...

    def score(self, pairs: Sequence[tuple[str, str]], check: Check) -> PairScores:
        """Return the scores of pairs, in the same order.

        :param pairs: (query, text) pairs.
        :param check: called before each batch.
        """
        ...

    def activate(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the model's own activation of logits: what ``CrossEncoder.predict`` gives."""
        ...

    def close(self) -> None:
        """Give the weights back."""
        ...


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
