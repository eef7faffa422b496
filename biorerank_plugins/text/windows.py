"""Long passages: windows over the passage, each to be scored with the whole query."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from biorerank_plugins.text.sentences import split_sentences

Aggregation: TypeAlias = Literal["max", "first", "mean-top-2"]
"""How the logits of a passage's windows become one: the best (MaxP), the first, or the mean of the two best."""

Span: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Windows:
    """How long passages are read, in tokens of the passage."""

    aggregation: Aggregation | None  # None reads the beginning only, and reports that the passage was truncated
    length: int | None  # of a window; None for as many as the model takes
    stride: int | None  # from the start of a window to the start of the next; None for three quarters of a window


class WindowedText:
    """A passage as the model's template writes it, in three parts: only ``body`` is cut, the others are repeated.

    :param whole: all of it, as the model reads it where it fits.
    :param cut: gives the three parts; called only for a passage that does not fit.
    """

    def __init__(self, whole: str, cut: Callable[[], tuple[str, str, str]]) -> None:
        self.whole = whole
        self._cut = cut

    @cached_property
    def _parts(self) -> tuple[str, str, str]:
        return self._cut()

    @property
    def head(self) -> str:
        """What stands before the body; ``whole`` begins with both."""
        return self._parts[0]

    @property
    def body(self) -> str:
        """What is cut into windows."""
        return self._parts[1]

    @property
    def tail(self) -> str:
        """What stands behind it."""
        return self._parts[2]

    def window(self, span: Span) -> str:
        """Return the text of a window."""
        return f"{self.head}{self.body[slice(*span)]}{self.tail}"


def check_windows(windows: bool | str, length: int | None, stride: int | None) -> Windows:
    """Return how long passages are read; ``windows`` is a truth value or an aggregation."""
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

    :param offsets: [n, 2], first code point of each token and one past its last.
    :param room: tokens a window, at least 1.
    :param stride: tokens from one start to the next, at most ``room``; ``None`` for three quarters of ``room``.
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
            end = max(_within(borders, start + room // 2 + 1, end), default=end)
        spans.append((int(offsets[start, 0]), int(offsets[end - 1, 1])))
        if end == n:
            return spans
        wanted = min(end, start + step)
        start = min(_within(borders, wanted, end), default=wanted)


def _within(borders: NDArray[np.int64], low: int, high: int) -> list[int]:
    found: list[int] = borders[(borders >= low) & (borders <= high)].tolist()
    return found
