"""What the model reads of a passage: one text, or several windows where the passage is too long for one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from biorerank_plugins.passages import Passage
from biorerank_plugins.text.templates import Template, passage_text, wellformed
from biorerank_plugins.text.windows import Span, WindowedText, Windows

if TYPE_CHECKING:
    from biorerank_plugins.scoring.scores import Scorer

_PLACE = "\N{OBJECT REPLACEMENT CHARACTER}\N{INFORMATION SEPARATOR ONE}"  # stands for the text while a template is cut

_LONG_TEXTS_AT_ONCE = 64  # that are cut between two looks at the clock


@dataclass(frozen=True, slots=True)
class PassageTexts:
    """What is read of one passage.

    :param texts: one for each window.
    :param spans: where the windows lie in ``Passage.text``; empty for a passage that is read as a whole.
    """

    texts: tuple[str, ...]
    spans: tuple[Span, ...] = ()


class PassageReader:
    """Writes passages as the model was trained on them, and cuts long ones into windows.

    :param template: how title, text and metadata become one text.
    :param prefix: text before each passage, and before each window.
    :param windows: how long passages are read.
    """

    def __init__(self, template: Template, prefix: str, windows: Windows) -> None:
        self.template = template
        self.prefix = prefix
        self.windows = windows

    def text(self, passage: Passage) -> str:
        """Return a passage as one text."""
        return self.prefix + passage_text(passage, self.template)

    def read(
        self, items: Sequence[tuple[str, Passage]], scorer: Scorer, check: Callable[[], object] = bool
    ) -> list[PassageTexts]:
        """Return what is read of each passage.

        :param items: (query as the model reads it, passage) pairs.
        :param scorer: knows how many tokens fit.
        :param check: called now and then; it may raise to stop.
        """
        texts = [self.text(passage) for _, passage in items]
        read_texts = [PassageTexts((text,)) for text in texts]
        fits = scorer.surely_fits
        if self.windows.aggregation is None or fits is None:
            return read_texts
        # Equal texts, of several queries, together: each is tokenised once.
        equal: dict[str, list[int]] = {}
        for number, text in enumerate(texts):
            if len(text) > fits:
                equal.setdefault(text, []).append(number)
        groups = list(equal.values())
        for first in range(0, len(groups), _LONG_TEXTS_AT_ONCE):
            check()
            long = [number for group in groups[first : first + _LONG_TEXTS_AT_ONCE] for number in group]
            self._cut(items, texts, long, scorer, read_texts)
        return read_texts

    def _cut(
        self,
        items: Sequence[tuple[str, Passage]],
        texts: Sequence[str],
        long: Sequence[int],
        scorer: Scorer,
        read_texts: list[PassageTexts],
    ) -> None:
        """Put the windows of long passages into ``read_texts``, where they need any."""
        cut = [WindowedText(texts[number], partial(self._parts, items[number][1], texts[number])) for number in long]
        spans = scorer.spans([(items[number][0], text) for number, text in zip(long, cut, strict=True)], self.windows)
        for number, text, own in zip(long, cut, spans, strict=True):
            if len(own) > 1:
                known = text.body == wellformed(items[number][1].text)
                windows = tuple(text.window(span) for span in own)
                read_texts[number] = PassageTexts(windows, tuple(own) if known else tuple((0, 0) for _ in own))

    def _parts(self, passage: Passage, text: str) -> tuple[str, str, str]:
        """Find the passage's own text in what the template made of it; only that is cut."""
        body = wellformed(passage.text)
        if callable(self.template):
            head, found, tail = text.partition(body) if body else (text, "", "")
            return (head, body, tail) if found else ("", text, "")
        head, _, tail = self.text(replace(passage, text=_PLACE)).partition(_PLACE)
        return head, body, tail
