"""PDF files: their paragraphs become passages. Needs ``pypdf``: ``pip install 'biorerank-plugins[pdf]'``."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from biorerank_plugins.errors import require_extra
from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.lines import read_whole
from biorerank_plugins.readers.pdf_layout import Line, Paragraph, paragraphs
from biorerank_plugins.readers.report import Malformed, Reading, said
from biorerank_plugins.readers.source import OpenFile
from biorerank_plugins.text.cutting import pieces
from biorerank_plugins.text.templates import wellformed

if TYPE_CHECKING:
    from pypdf import PdfReader

_MAX_BYTES = 1 << 28
_MAX_PAGES = 5_000
_MAX_CHARACTERS = 50_000_000
_LONG = 1_500  # characters of a passage: about what a reranker reads of it
_SHORT = 80  # what is shorter says little by itself
_NO_TITLE = re.compile(
    r"(?:untitled.*|\(?anonymous\)?|microsoft word.*|.*\.(?:docx?|tex|dvi|pdf|indd|qxd))?", re.IGNORECASE
)


def read(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give the paragraphs of a PDF file, long ones in parts, each with page, section and file in its metadata.

    Columns are read one after another; running heads, page numbers and reference lists are left out; hyphens at ends
    of lines are undone. What stands in pictures (scanned pages) is not seen.
    """
    with require_extra("pdf"):
        import pypdf  # noqa: F401
    with reading.noting(file.name):
        title, found = _document(file, reading)
        for number, (paragraph, text) in enumerate(_parts(found), start=1):
            metadata: dict[str, Any] = {"source": file.id, "page": paragraph.page}
            if paragraph.section and paragraph.section != title:
                metadata["section"] = paragraph.section
            yield Passage(f"{file.id}#{number}", text, title=title or None, metadata=metadata)


def _document(file: OpenFile, reading: Reading) -> tuple[str, list[Paragraph]]:
    data = read_whole(file, "A PDF file", _MAX_BYTES)
    with _quiet():
        reader = _opened(data)
        pages = _pages(reader, file, reading)
        found = paragraphs(pages)
        if not found:
            raise Malformed("The PDF holds no text: its pages are pictures. Recognise their text first (ocrmypdf).")
        return _title(reader, pages), found


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep pypdf's warnings about what it could mend out of the log."""
    logger = logging.getLogger("pypdf")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _opened(data: bytes) -> PdfReader:
    from pypdf import PdfReader

    try:
        reader = PdfReader(io.BytesIO(data))
        locked = reader.is_encrypted and not reader.decrypt("")
        count = 0 if locked else len(reader.pages)
    except Exception as error:  # a damaged file fails in any of pypdf's lines
        raise Malformed(f"The PDF is damaged, or needs a package to decrypt it ({said(error)}).") from error
    if locked:
        raise Malformed("The PDF is protected by a password. Save it without one.")
    if count > _MAX_PAGES:
        raise Malformed(f"The PDF has {count} pages, and {_MAX_PAGES} are read at most. Split it.")
    return reader


def _pages(reader: PdfReader, file: OpenFile, reading: Reading) -> list[list[Line]]:
    pages: list[list[Line]] = []
    size = 0
    for number in range(len(reader.pages)):
        try:
            lines = _lines(reader.pages[number])
        except Exception as error:  # see above; the other pages may be fine
            reading.bad(f"This page of the PDF is damaged ({said(error)}).", file.name, number + 1)
            lines = []
        size += sum(len(line.text) for line in lines)
        if size > _MAX_CHARACTERS:
            raise Malformed(f"The PDF has more than {_MAX_CHARACTERS:,} characters of text. Split it.")
        pages.append(lines)
    return pages


def _lines(page: Any) -> list[Line]:
    """Return the lines of a page; pieces that stand side by side at the same height are one line."""
    pieces: list[Line] = []

    def visit(text: str, user: Sequence[float], place: Sequence[float], font: Any, size: float) -> None:
        if not text.strip():
            return
        x = place[4] * user[0] + place[5] * user[2] + user[4]
        y = place[4] * user[1] + place[5] * user[3] + user[5]
        height = abs(size * (place[3] or place[0] or 1.0) * (user[3] or 1.0)) or 1.0
        for row, part in enumerate(text.strip("\n").split("\n")):
            if part.strip():
                pieces.append(Line(wellformed(part.rstrip()), x, y - 1.2 * height * row, height))

    page.extract_text(visitor_text=visit)
    return _side_by_side(pieces)


def _side_by_side(pieces: list[Line]) -> list[Line]:
    """Put together what one line was drawn in; the order of drawing is kept."""
    lines: list[Line] = []
    for piece in pieces:
        last = lines[-1] if lines else None
        if last is not None and abs(last.y - piece.y) < 0.3 * piece.size and 0 <= piece.x - last.x:
            gap = piece.x - last.end
            if gap < 2.5 * piece.size and abs(piece.size - last.size) < 0.6 * last.size:
                space = "" if last.text.endswith(" ") or piece.text.startswith(" ") or gap < 0 else " "
                lines[-1] = Line(last.text + space + piece.text, last.x, last.y, last.size)
                continue
        lines.append(piece)
    return [Line(line.text.strip(), line.x, line.y, line.size) for line in lines]


def _title(reader: PdfReader, pages: Sequence[Sequence[Line]]) -> str:
    try:
        stored = str((reader.metadata and reader.metadata.title) or "").strip()
    except Exception:
        stored = ""
    if stored and not _NO_TITLE.fullmatch(stored):
        return wellformed(" ".join(stored.split()))[:300]
    first = next((page for page in pages if page), [])
    largest = max((line.size for line in first), default=0.0)
    lines = sorted((line for line in first if line.size > largest - 0.6), key=lambda line: -line.y)
    if not lines or len(lines) > 4 or len(lines) == len(first):  # the largest letters are those of the text itself
        return ""
    return " ".join(" ".join(line.text.split()) for line in lines)[:300]


def _parts(found: Sequence[Paragraph]) -> Iterator[tuple[Paragraph, str]]:
    """Give paragraphs of a sensible size: short ones go with what follows them, long ones are cut between sentences."""
    held = ""
    for place, paragraph in enumerate(found):
        text = f"{held} {paragraph.text}".strip()
        follows = found[place + 1] if place + 1 < len(found) else None
        if len(text) < _SHORT and follows is not None and follows.section == paragraph.section:
            held = text
            continue
        held = ""
        for start, end in pieces(text, 0, len(text), _LONG):
            yield paragraph, text[start:end]
