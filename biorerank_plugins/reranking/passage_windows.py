"""What the model reads of a passage: one text, or several windows where the passage is too long for one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from biorerank_plugins.passages import Passage
from biorerank_plugins.scoring.scores import Scorer
from biorerank_plugins.text.templates import Template, passage_text, wellformed
from biorerank_plugins.text.windows import Span, WindowedText, Windows

_PLACE = "\N{OBJECT REPLACEMENT CHARACTER}\N{INFORMATION SEPARATOR ONE}"  # stands for the text while a template is cut

_LONG_TEXTS_AT_ONCE = 64  # that are cut between two looks at the clock


@dataclass(frozen=True, slots=True)
class PassageTexts:
    """What is read of one passage."""

    texts: tuple[str, ...]  # one for each window
    spans: tuple[Span, ...] = ()  # where they lie in ``Passage.text``; none for a passage that is read as a whole


@dataclass(frozen=True, slots=True)
class PassageReader:
    """Writes passages as the model was trained on them, and cuts long ones into windows.

    :param prefix: text before each passage, and before each window.
    """

    template: Template
    prefix: str
    windows: Windows

    def text(self, passage: Passage) -> str:
        """Return a passage as one text."""
        return self.prefix + passage_text(passage, self.template)

    def read(
        self, items: Sequence[tuple[str, Passage]], scorer: Scorer, check: Callable[[], object]
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
        for number, whole in enumerate(texts):
            if len(whole) > fits:
                equal.setdefault(whole, []).append(number)
        groups = list(equal.values())
        for first in range(0, len(groups), _LONG_TEXTS_AT_ONCE):
            check()
            long = [number for group in groups[first : first + _LONG_TEXTS_AT_ONCE] for number in group]
            cut = [WindowedText(texts[n], partial(self._parts, items[n][1], texts[n])) for n in long]
            spans = scorer.spans([(items[n][0], text) for n, text in zip(long, cut, strict=True)], self.windows)
            for number, text, own in zip(long, cut, spans, strict=True):
                if len(own) > 1:
                    known = text.body == wellformed(items[number][1].text)
                    windows = tuple(text.window(span) for span in own)
                    read_texts[number] = PassageTexts(windows, tuple(own) if known else tuple((0, 0) for _ in own))
        return read_texts

    def _parts(self, passage: Passage, text: str) -> tuple[str, str, str]:
        """Find the passage's own text in what the template made of it; only that is cut."""
        body = wellformed(passage.text)
        if callable(self.template):
            head, found, tail = text.partition(body) if body else (text, "", "")
            return (head, body, tail) if found else ("", text, "")
        head, _, tail = self.text(replace(passage, text=_PLACE)).partition(_PLACE)
        return head, body, tail
