"""Where in an article a sentence of a passage stands: the section, and the offset in it."""

from __future__ import annotations

import numbers
import re
from collections.abc import Sequence
from dataclasses import dataclass

from biorerank_plugins.articles.metadata import MetadataKeys
from biorerank_plugins.passages import Evidence, Passage

TITLE, ABSTRACT = "title", "abstract"

_BETWEEN = re.compile(r"[\s.]*")  # a title and the abstract, where both are one text


@dataclass(frozen=True, slots=True)
class Part:
    """A section, or a piece of one."""

    section: str
    start: int  # first code point in the passage's text
    end: int  # one past the last
    offset: int = 0  # where in the section the piece begins


def parts_of(passage: Passage, keys: MetadataKeys) -> list[Part]:
    """Return the sections of a passage, in the order of its text.

    :param passage: ``metadata["section"]`` and ``metadata["offset"]`` say what it is a piece of; else it is an abstract
        as a whole, behind the title where its text begins with that.

    >>> [part.section for part in parts_of(Passage("1", "TP53. It acts.", title="TP53"), MetadataKeys())]
    ['title', 'abstract']
    """
    size = len(passage.text)
    given = passage.metadata.get("offset")
    offset = max(0, int(given)) if isinstance(given, numbers.Integral) and not isinstance(given, bool) else 0
    section = passage.metadata.get("section")
    if isinstance(section, str) and section.strip():
        return [Part(section.strip(), 0, size, offset)]
    title = keys.title_of(passage)
    if offset or not title.strip() or not passage.text.startswith(title):
        return [Part(ABSTRACT, 0, size, offset)]
    between = _BETWEEN.match(passage.text, len(title))
    return [Part(TITLE, 0, len(title)), Part(ABSTRACT, between.end() if between else len(title), size)]


def place(sentence: Evidence, parts: Sequence[Part]) -> tuple[Part, int, int] | None:
    """Return the section that a sentence stands in, and from where to where in the passage's text.

    Of a "sentence" that runs on from a title without a full stop, the piece in the abstract is the sentence. ``None``
    for one that stands in no section: nothing but marks.
    """
    for part in reversed(parts):
        start, end = max(part.start, sentence.start), min(part.end, sentence.end)
        if start < end:
            return part, start, end
    return None
