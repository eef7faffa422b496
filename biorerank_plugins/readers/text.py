"""Plain text: one file, one passage, named by its path relative to the folder that is read."""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.lines import MAX_LINE, decode_line
from biorerank_plugins.readers.records import as_text
from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.readers.source import OpenFile

__all__ = ["read"]


def read(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give the file as one passage, with Unix line ends and without white space around it."""
    try:
        passage = _passage(file)
    except Malformed as problem:
        reading.bad(problem, file.name)
        return
    yield passage


def _passage(file: OpenFile) -> Passage:
    raw = file.stream.read(MAX_LINE + 1)
    if len(raw) > MAX_LINE:
        raise Malformed(f"A text file is one passage and may have {MAX_LINE >> 20} MiB at most. Split it.")
    text = decode_line(raw.removeprefix(codecs.BOM_UTF8)).replace("\r\n", "\n")
    if not file.id.isascii() and any("\ud800" <= character <= "\udfff" for character in file.id):
        raise Malformed("The file's name is not valid UTF-8, so it cannot name a passage. Rename it.")
    return Passage(file.id, as_text(text).strip())
