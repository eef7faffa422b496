"""Sentences that cannot be understood alone: what their pronouns stand for is said before them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from biorerank_plugins.text.windows import Span

_STARTS = re.compile(r"(?:It|They|This|These|Its|Their|He|She|Both|Such|Those)\b")
_INSIDE = re.compile(r"\b(?:it|them|they|its|their)\b")


def in_context(text: str, spans: Sequence[Span], title: str | None = None) -> dict[int, str]:
    """Return the sentences that refer to what was said before, each together with the sentence before it.

    :param text: the text.
    :param spans: its sentences, in order.
    :param title: of the article; stands before the first sentence.
    :returns: by the place of the sentence; those that need nothing are not there.

    >>> text = "Dabigatran inhibits thrombin. Idarucizumab reverses it. Both are used."
    >>> in_context(text, [(0, 29), (30, 55), (56, 70)])
    {1: 'Dabigatran inhibits thrombin. Idarucizumab reverses it.', 2: 'Idarucizumab reverses it. Both are used.'}
    """
    found: dict[int, str] = {}
    before = (title or "").strip()
    for place, (start, end) in enumerate(spans):
        sentence = text[start:end]
        if before and (_STARTS.match(sentence) or _INSIDE.search(sentence)):
            found[place] = f"{before if before[-1] in '.?!:;' else before + '.'} {sentence}"
        before = sentence
    return found
