"""Notes and guidelines: plain text, Markdown, HTML pages and Word files, named by the path in the folder that is read.

A short file is one passage. A longer one is cut at headings, paragraphs and sentences into passages ``path#1``,
``path#2``, …, each with its heading (``section``) and its place (``start``, in characters). Word files need
``mammoth``, which turns them into HTML: ``pip install 'biorerank-plugins[office]'``.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator

from biorerank_plugins.errors import require_extra
from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.archive import check_office
from biorerank_plugins.readers.lines import decode_line, read_whole
from biorerank_plugins.readers.markup import html_text, parse_html
from biorerank_plugins.readers.records import as_text
from biorerank_plugins.readers.report import Malformed, Reading, said
from biorerank_plugins.readers.source import OpenFile
from biorerank_plugins.text.cutting import cut_document
from biorerank_plugins.text.templates import wellformed

_CHARSET = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?\s*([\w-]+)""", re.IGNORECASE)
# What browsers take these names for.
_BROWSERS = {"iso-8859-1": "windows-1252", "latin1": "windows-1252", "us-ascii": "windows-1252"}


def read_text(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give the passages of a text, with Unix line ends and without white space around it."""
    with reading.noting(file.name):
        raw = read_whole(file, "A text file").removeprefix(codecs.BOM_UTF8)
        yield from _cut(file, reading, decode_line(raw).replace("\r\n", "\n"))


def read_html(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give the passages of a page, with its title."""
    with reading.noting(file.name):
        tree = parse_html(_decoded(read_whole(file, "An HTML file"), file))
        title = wellformed(" ".join((tree.findtext(".//title") or "").split()))
        yield from _cut(file, reading, _plain(html_text(tree)), title or None)


def read_docx(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give the passages of a Word file (``.docx``); pictures are left out."""
    with require_extra("office"):
        import mammoth
    with reading.noting(file.name):
        check_office(file.stream)
        try:
            no_pictures = mammoth.images.img_element(lambda picture: {})
            made = mammoth.convert_to_html(io.BytesIO(file.stream.read()), convert_image=no_pictures)
        except Exception as error:  # a damaged file fails in any of its lines
            raise Malformed(f"The Word file is damaged ({said(error)}).") from error
        yield from _cut(file, reading, _plain(html_text(parse_html(f"<div>{made.value}</div>"))))


def _plain(text: str) -> str:
    return wellformed(text).replace("\0", "")


def _decoded(data: bytes, file: OpenFile) -> str:
    """Return the text, decoded as the caller, the first bytes or the page itself say; else as UTF-8."""
    declared = _CHARSET.search(data[:4096])
    name = "utf-8"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        name = "utf-16"
    elif not data.startswith(codecs.BOM_UTF8):
        name = file.encoding or (declared[1].decode("ascii", "replace").lower() if declared else name)
    try:
        text = data.decode(_BROWSERS.get(name, name)).removeprefix("\ufeff")
    except (LookupError, UnicodeDecodeError, ValueError):
        raise Malformed(f"Not valid {name}. Say how it is encoded: encoding='windows-1252' (--encoding).") from None
    return re.sub(r"<\?xml[^>]*\?>", "", text, count=1)  # lxml wants no declaration in what is decoded


def _cut(file: OpenFile, reading: Reading, text: str, title: str | None = None) -> Iterator[Passage]:
    """Give the passages of a text whose headings are written as Markdown has them."""
    text = as_text(text).strip()
    if not file.id.isascii() and any("\ud800" <= character <= "\udfff" for character in file.id):
        reading.bad("The file's name is not valid UTF-8, so it cannot name a passage. Rename it.", file.name)
        return
    parts = [] if reading.whole else cut_document(text)
    if len(parts) < 2:
        yield Passage(file.id, text, title)
        return
    for number, part in enumerate(parts, start=1):
        metadata = {"start": part.start, **({"section": part.heading} if part.heading else {})}
        yield Passage(f"{file.id}#{number}", text[part.start : part.end], title, metadata)
