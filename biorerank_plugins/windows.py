"""Long passages: windows over the passage, each scored with the whole query, and one logit made of theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from biorerank_plugins.sentences import split_sentences

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biorerank_plugins.scoring import PairScores

__all__ = ["Aggregation", "WindowedText", "Windows", "check_windows", "fold", "window_spans"]

Aggregation: TypeAlias = Literal["max", "first", "mean-top-2"]
"""How the logits of a passage's windows become one: the best (MaxP), the first, or the mean of the two best."""

Span: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Windows:
    """How long passages are read.

    :param aggregation: ``None`` reads the beginning only, and reports that the passage was truncated.
    :param length: tokens of the passage in a window; ``None`` for as many as the model takes.
    :param stride: tokens from the start of a window to the start of the next; ``None`` for three quarters of a window.
    """

    aggregation: Aggregation | None
    length: int | None
    stride: int | None


@dataclass(frozen=True, slots=True)
class WindowedText:
    """A passage as the model's template writes it, in three parts: only ``body`` is cut, the others are repeated."""

    head: str
    body: str
    tail: str

    def window(self, span: Span) -> str:
        """Return the text of a window."""
        return f"{self.head}{self.body[slice(*span)]}{self.tail}"


def check_windows(windows: bool | str, length: int | None, stride: int | None) -> Windows:
    """Return how long passages are read.

    :raises ValueError: if ``windows`` is neither a truth value nor an aggregation.
    """
    if windows is False:
        return Windows(None, length, stride)
    aggregation = "max" if windows is True else windows
    for known in get_args(Aggregation):
        if aggregation == known:
            return Windows(known, length, stride)
    raise ValueError(
        f"windows={windows!r} is unknown. Choose True, False, or one of: {', '.join(get_args(Aggregation))}."
    )


def window_spans(
    text: str,
    offsets: NDArray[np.int64],
    room: int,
    stride: int | None,
    sentences: Callable[[str], list[Span]] | None = None,
) -> list[Span]:
    """Cut a text into windows of at most ``room`` tokens, on sentence borders where that wastes no more than half.

    :param text: the text.
    :param offsets: [n, 2], first code point of each token and one past its last.
    :param room: tokens a window, at least 1.
    :param stride: tokens from one start to the next, at most ``room``; ``None`` for three quarters of ``room``.
    :param sentences: finds sentences; for tests.
    :returns: spans of the text; one over all of it if it fits. Every token is in at least one window.
    """
    n = len(offsets)
    if n <= room:
        return [(0, len(text))]
    step = max(1, min(room, room * 3 // 4 if stride is None else stride))
    starts = [start for start, _ in (sentences or split_sentences)(text)]
    borders = np.unique(np.searchsorted(offsets[:, 0], starts))
    spans: list[Span] = []
    start = 0
    while True:
        end = min(n, start + room)
        if end < n:
            end = _last(borders, start + room // 2, end) or end
        spans.append((int(offsets[start, 0]), int(offsets[end - 1, 1])))
        if end == n:
            return spans
        wanted = max(start + 1, min(end, start + step))
        start = _first(borders, wanted, end) or wanted


def _last(borders: NDArray[np.int64], low: int, high: int) -> int | None:
    """Return the last border in (low, high], if any."""
    found = borders[(borders > low) & (borders <= high)]
    return int(found[-1]) if len(found) else None


def _first(borders: NDArray[np.int64], low: int, high: int) -> int | None:
    """Return the first border in [low, high], if any."""
    found = borders[(borders >= low) & (borders <= high)]
    return int(found[0]) if len(found) else None


def fold(scores: PairScores, counts: Sequence[int], aggregation: Aggregation | None) -> tuple[PairScores, list[int]]:
    """Make one entry a passage of one entry a window.

    :param scores: of all windows, passage after passage.
    :param counts: windows of each passage, at least 1.
    :param aggregation: how the logits become one.
    :returns: the scores a passage (a passage is truncated if one of its windows is), and which window won.
    """
    from biorerank_plugins.scoring import PairScores as Scores

    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(int) if len(counts) else np.zeros(0, int)
    logits = np.empty(len(counts), dtype=np.float32)
    best: list[int] = []
    for number, (start, count) in enumerate(zip(starts, counts, strict=True)):
        own = scores.logits[start : start + count]
        best.append(0 if aggregation == "first" else int(own.argmax()))
        top2 = aggregation == "mean-top-2" and count > 1
        logits[number] = np.sort(own)[-2:].mean() if top2 else own[best[-1]]
    if not len(counts):
        return scores, best
    any_of = np.logical_or.reduceat
    return Scores(logits, any_of(scores.truncated, starts), any_of(scores.query_truncated, starts)), best
