"""Lines on pages ► paragraphs in reading order: columns, running heads, reference lists, hyphens at ends of lines."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

_EDGE_LINES = 2  # at the top and the bottom of a page, where running heads and page numbers stand
_REFERENCES = re.compile(
    r"(?:\d+\.?\s+)?(?:references|bibliography|literature cited|reference list)\s*:?", re.IGNORECASE
)
_AFTER_REFERENCES = re.compile(r"(?:appendix|supplement)", re.IGNORECASE)
_PAGE_NUMBER = re.compile(r"(?:page\s+)?\d{1,5}(?:\s*(?:of|/)\s*\d{1,5})?", re.IGNORECASE)
_ENDS = (".", "!", "?", ":", ".)", ".”", '."')
_LIGATURES = str.maketrans(
    {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st", "\u00ad": "-"}
)
# What follows a hyphen of the word's own.
_SECOND_PARTS = frozenset(
    "associated based dependent free induced like mediated related rich specific term therapy type".split()
)
_HYPHENATED = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)+")
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text; its places are in points."""

    text: str
    x: float  # where it begins, from the left
    y: float  # its height on the page, from the bottom
    size: float  # of its letters

    @property
    def end(self) -> float:
        """About where it ends: letters are about half as wide as high."""
        return self.x + 0.5 * self.size * len(self.text)


@dataclass(slots=True)
class Paragraph:
    """A paragraph of a document."""

    page: int  # where it begins, from 1
    text: str
    section: str  # the heading above it, "" if there is none


def paragraphs(pages: Sequence[Sequence[Line]]) -> list[Paragraph]:
    """Return the paragraphs of a document, of the lines of its pages, in the order in which a person reads them.

    Running heads, page numbers and reference lists are left out; hyphens at ends of lines are undone.
    """
    kept = _without_running_heads(pages)
    sizes = [line.size for page in kept for line in page for _ in range(len(line.text))]
    if not sizes:
        return []
    body = median(sizes)
    words = _DocumentWords(line.text for page in kept for line in page)
    found: list[Paragraph] = []
    section, in_references = "", False
    for page_number, lines in _grouped(kept, body):
        text = words.joined([line.text for line in lines])
        is_heading = _is_heading(lines, text, body)
        if _REFERENCES.fullmatch(text.strip()):
            in_references = True
        elif in_references and is_heading and (_AFTER_REFERENCES.match(text) or lines[0].size > 1.3 * body):
            in_references = False
        if in_references:
            continue
        if is_heading:
            section = text
        else:
            found.append(Paragraph(page_number, text, section))
    return found


def reading_order(lines: Sequence[Line], usual: float | None = None) -> list[Line]:
    """Return the lines of a page in reading order: columns one after another between lines that cross them.

    :param usual: where the second column begins on other pages: on the last one it may hold a line or two.
    """
    top_down = sorted(lines, key=lambda line: (-round(line.y), line.x))
    if len(lines) < 4:
        return top_down
    left = min(line.x for line in lines)
    right = max(line.end for line in lines)
    gap = _gap(lines)
    if gap is None and usual is not None and any(abs(line.x - usual - 3) < 4 for line in lines):
        gap = usual
    if gap is None:
        return top_down
    ordered: list[Line] = []
    columns: tuple[list[Line], list[Line]] = ([], [])
    for line in top_down:
        if line.x < gap - 2 and line.end > gap + 0.12 * (right - left):  # it crosses both columns
            ordered += [*_both(columns), line]
            columns = ([], [])
        else:
            columns[line.x >= gap - 2].append(line)
    return ordered + _both(columns)


def _both(columns: tuple[list[Line], list[Line]]) -> list[Line]:
    """Return two columns one after another; either may be two itself, where a page has three."""
    return [line for column in columns for line in (reading_order(column) if len(column) >= 8 else column)]


def _gap(lines: Sequence[Line]) -> float | None:
    """Return where the second column begins; ``None`` if there is one column."""
    if len(lines) < 4:
        return None
    left, right = min(line.x for line in lines), max(line.end for line in lines)
    width = right - left
    starts = Counter(round(line.x / 3) * 3 for line in lines if left + 0.35 * width < line.x < left + 0.7 * width)
    if not starts:
        return None
    place, count = starts.most_common(1)[0]
    return place - 3.0 if count >= max(3, 0.15 * len(lines)) else None


def _without_running_heads(pages: Sequence[Sequence[Line]]) -> list[list[Line]]:
    edges = [_edges(page) for page in pages]
    seen = Counter(key for page in edges for key in {_key(line) for line in page})
    often = {key for key, count in seen.items() if count >= max(2, 0.4 * len(pages))}

    def is_running(line: Line, edge: Sequence[Line]) -> bool:
        return line in edge and (_key(line) in often or _PAGE_NUMBER.fullmatch(line.text.strip()) is not None)

    return [[line for line in page if not is_running(line, edge)] for page, edge in zip(pages, edges, strict=True)]


def _edges(page: Sequence[Line]) -> list[Line]:
    heights = sorted({round(line.y) for line in page})
    at_edge = {*heights[:_EDGE_LINES], *heights[-_EDGE_LINES:]}
    return [line for line in page if round(line.y) in at_edge]


def _key(line: Line) -> str:
    return re.sub(r"\d+", "#", " ".join(line.text.split()).casefold())


def _grouped(pages: Sequence[Sequence[Line]], body: float) -> Iterator[tuple[int, list[Line]]]:
    """Give the first page and the lines of each paragraph or heading, which may go on in the next column or page."""
    begun, opened = 0, list[Line]()
    gaps = Counter(gap for page in pages if (gap := _gap(page)) is not None)
    usual = gaps.most_common(1)[0][0] if gaps else None
    for number, page in enumerate(pages, start=1):
        ordered = reading_order(page, usual)
        margins = _margins(ordered)
        leading = _leading(ordered, body)
        for line in ordered:
            if opened and not _goes_on(opened, line, margins, leading):
                yield begun, opened
                opened = []
            if not opened:
                begun = number
            opened.append(line)
    if opened:
        yield begun, opened


def _goes_on(before: Sequence[Line], line: Line, margins: set[int], leading: float) -> bool:
    last = before[-1]
    if abs(line.size - last.size) > 0.6:
        return False
    below = last.y - line.y
    if -1 <= below < 0.5 * line.size:  # the same line in two pieces
        return True
    if below < 0 or abs(line.x - last.x) > 12 * line.size:  # the next column or page
        return not last.text.rstrip().endswith(_ENDS)
    indented = round(line.x) not in margins and 0.5 * line.size < line.x - min(one.x for one in before) < 6 * line.size
    return below <= 1.45 * leading and not indented


def _margins(lines: Sequence[Line]) -> set[int]:
    """Return where many lines begin: the left sides of columns."""
    counted = Counter(round(line.x) for line in lines)
    return {x for x, count in counted.items() if count >= max(2, 0.25 * len(lines))}


def _leading(lines: Sequence[Line], body: float) -> float:
    steps = [one.y - other.y for one, other in pairwise(lines)]
    sensible = [step for step in steps if 0.8 * body < step < 2.5 * body]
    return median(sensible) if sensible else 1.3 * body


def _is_heading(lines: Sequence[Line], text: str, body: float) -> bool:
    if len(text) > 200 or text.endswith((".", ";", ",")):
        return False
    if lines[0].size > 1.08 * body:
        return True
    return len(lines) == 1 and len(text) < 60 and _REFERENCES.fullmatch(text) is not None


class _DocumentWords:
    """Which words a document has, to tell a hyphen of the line's end from the word's own."""

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
