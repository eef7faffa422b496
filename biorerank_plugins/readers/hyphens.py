"""Lines become one text: a hyphen at the end of a line is the line's, or the word's own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

_LIGATURES = str.maketrans(
    {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st", "\u00ad": "-"}
)
_SECOND_PARTS = frozenset(
    "associated based dependent free induced like mediated related rich specific term therapy type".split()
)
_HYPHENATED = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)+")
_WORD = re.compile(r"[^\W\d_]+")


class DocumentWords:
    """Which words a document has, to tell a hyphen of the line's end from the word's own.

    :param texts: the lines of the document, in order.

    >>> DocumentWords([]).joined(["A tumour sup-", "pressor."])
    'A tumour suppressor.'
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._whole: Counter[str] = Counter()
        self._hyphenated: Counter[str] = Counter()
        cut = False
        for text in texts:
            plain = text.translate(_LIGATURES).casefold().strip()
            if cut:  # two halves of a word that was cut are no words
                plain = plain.partition(" ")[2]
            cut = plain.endswith("-")
            plain = plain.rpartition(" ")[0] if cut else plain
            self._whole.update(_WORD.findall(plain))
            self._hyphenated.update(_HYPHENATED.findall(plain))

    def joined(self, lines: Sequence[str]) -> str:
        """Return lines as one text."""
        text = ""
        for line in lines:
            more = " ".join(line.translate(_LIGATURES).split())
            if text.endswith("-") and more and not text.endswith((" -", "--")):
                if more.startswith("-"):  # some programs repeat the hyphen of a word on the next line
                    text += more[1:]
                else:
                    text = (text if self._keeps_hyphen(text, more) else text[:-1]) + more
            else:
                text = f"{text} {more}" if text and more else text + more
        return text

    def _keeps_hyphen(self, before: str, after: str) -> bool:
        first, second = before[:-1].rsplit(None, 1)[-1], after.split(None, 1)[0]
        in_capitals = first.isupper() and _WORD.match(second) is not None and second[:2].isupper()
        if not first[-1:].isalpha() or not (second[:1].islower() or in_capitals):
            return True
        if not in_capitals and any(letter.isdigit() for letter in first):
            return True
        if not in_capitals and first.isupper() and len(first) > 1:
            return True  # TNF-alpha, IL6-dependent
        begin, end = _WORD.findall(first)[-1].casefold(), _WORD.findall(second)[0].casefold()
        known, joined = self._hyphenated[f"{begin}-{end}"], self._whole[begin + end]
        if known or joined:
            return known > joined
        # Neither is in the document: a compound, if both its parts are words.
        is_compound = len(begin) >= 4 and len(end) >= 4 and self._whole[begin] > 0 and self._whole[end] > 0
        return end in _SECOND_PARTS or is_compound
