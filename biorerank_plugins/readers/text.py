"""Plain text and Markdown, named by the path relative to the folder that is read.

A short file is one passage. A longer one is cut at headings, paragraphs and sentences into passages ``path#1``,
``path#2``, …, each with its heading (``section``) and its place (``start``, in characters).
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.lines import decode_line, read_whole
from biorerank_plugins.readers.records import as_text
from biorerank_plugins.readers.report import Reading
from biorerank_plugins.readers.source import OpenFile
from biorerank_plugins.text.cutting import cut_document


def read(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give the passages of the file, with Unix line ends and without white space around them."""
    with reading.noting(file.name):
        raw = read_whole(file, "A text file").removeprefix(codecs.BOM_UTF8)
        yield from cut(file, reading, as_text(decode_line(raw).replace("\r\n", "\n")).strip())


def cut(file: OpenFile, reading: Reading, text: str, title: str | None = None) -> Iterator[Passage]:
    """Give the passages of a text file of any format.

    :param text: its text; headings as Markdown has them.
    """
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
