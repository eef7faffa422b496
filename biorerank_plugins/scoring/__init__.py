"""Running a cross-encoder: the plug point :class:`PairScorer` and the way from a model name to a scorer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from biorerank_plugins.windows import WindowedText, Windows

__all__ = ["Check", "PairScorer", "PairScores", "Scorer", "load_scorer"]

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


# Imported last: the module needs the names above.
from biorerank_plugins.scoring.loading import load_scorer  # noqa: E402
