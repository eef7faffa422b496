"""Long documents become passages of a useful size: cut at headings, paragraphs and, where those are long, sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from biorerank_plugins.text.sentences import MAX_SENTENCE, split_sentences

PASSAGE_SIZE = 600
"""Characters of a passage: about what a first stage and a reader of evidence do well with."""

_GAP = re.compile(r"\n[^\S\n]*\n\s*")
_HEADING = re.compile(r"#{1,6}[^\S\n]+([^\n]*?)[^\S\n]*#*\s*")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a document, from its first character to one past its last."""

    start: int
    end: int
    heading: str | None  # the Markdown heading that it stands under, if any


def cut_document(text: str, size: int = PASSAGE_SIZE) -> list[Part]:
    r"""Return the parts of a text or of Markdown, in order, without white space around them.

    :param size: characters of a part, about: whole paragraphs are put together until they would be more, a longer one
        is cut at borders of sentences. A heading begins a part.

    >>> note = "# Sodium\n\nRise of 8 mmol/l a day at most.\n\n# Potassium\n\nBy mouth."
    >>> [(part.heading, note[part.start : part.end]) for part in cut_document(note)]
    [('Sodium', 'Rise of 8 mmol/l a day at most.'), ('Potassium', 'By mouth.')]
    """
    parts: list[Part] = []
    heading: str | None = None
    fresh = True  # nothing may be put to the part before
    for start, end in _paragraphs(text):
        if (found := _HEADING.fullmatch(text[start:end])) is not None:
            heading, fresh = found[1] or None, True
            continue
        for piece_start, piece_end in pieces(text, start, end, size):
            if not fresh and piece_end - parts[-1].start <= size:
                parts[-1] = Part(parts[-1].start, piece_end, heading)
            else:
                parts.append(Part(piece_start, piece_end, heading))
            fresh = False
    return parts


def _paragraphs(text: str) -> Iterator[tuple[int, int]]:
    """Give the paragraphs; a line that is a heading is one by itself."""
    at = 0
    for start, end in [*(match.span() for match in _GAP.finditer(text)), (len(text), len(text))]:
        yield from _without_headings(text, at, start)
        at = end


def _without_headings(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    begin, at = start, start
    for line in text[start:end].splitlines(keepends=True):
        if _HEADING.fullmatch(line.strip()):
            yield from _stripped(text, begin, at)
            yield from _stripped(text, at, at + len(line))
            begin = at + len(line)
        at += len(line)
    yield from _stripped(text, begin, end)


def _stripped(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    inside = text[start:end]
    if kept := inside.strip():
        first = start + inside.index(kept[0])
        yield first, first + len(kept)


def pieces(text: str, start: int, end: int, size: int) -> Iterator[tuple[int, int]]:
    """Give a paragraph, or sentences of it together as long as they fit."""
    if end - start <= size:
        yield start, end
        return
    first = last = start
    for _, sentence_end in split_sentences(text[start:end], max_length=min(size, MAX_SENTENCE)):
        if last > first and start + sentence_end - first > size:
            yield first, last
            first = last + len(text[last:end]) - len(text[last:end].lstrip())
        last = start + sentence_end
    yield first, last
