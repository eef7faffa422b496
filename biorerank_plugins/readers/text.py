"""Plain text and Markdown, named by the path relative to the folder that is read.

A short file is one passage. A longer one is cut at headings, paragraphs and sentences into passages ``path#1``,
``path#2``, …, each with its heading (``section``) and its place (``start``, in characters).
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.lines import MAX_LINE, decode_line
from biorerank_plugins.readers.records import as_text
from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.readers.source import OpenFile
from biorerank_plugins.text.cutting import cut_document


def read(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give the passages of the file, with Unix line ends and without white space around them."""
    try:
        text = _text(file)
    except Malformed as problem:
        reading.bad(problem, file.name)
        return
    yield from cut(file, reading, text)


def cut(file: OpenFile, reading: Reading, text: str, title: str | None = None) -> Iterator[Passage]:
    """Give the passages of a text file of any format.

    :param text: its text; headings as Markdown has them.
    :param title: of all of them.
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


def _text(file: OpenFile) -> str:
    raw = file.stream.read(MAX_LINE + 1)
    if len(raw) > MAX_LINE:
        raise Malformed(f"A text file may have {MAX_LINE >> 20} MiB at most. Split it.")
    text = decode_line(raw.removeprefix(codecs.BOM_UTF8)).replace("\r\n", "\n")
    return as_text(text).strip()
