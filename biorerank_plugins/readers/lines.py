"""Lines of bounded length, decoded strictly, each malformed one reported with its number."""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable, Iterator
from typing import TypeVar

from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.readers.source import OpenFile

MAX_LINE = 1 << 24
"""Longest line in bytes (16 MiB). No passage comes near it; a file without line ends must not fill the memory."""

_T = TypeVar("_T")


def raw_lines(stream: io.BufferedReader) -> Iterator[tuple[int, bytes]]:
    """Give ``(number, line)``, numbers from 1, line ends kept, without a leading byte order mark.

    Of a line longer than :data:`MAX_LINE` the beginning is given, one byte too long: :func:`decode_line` refuses it.
    """
    for number, raw in enumerate(iter(lambda: stream.readline(MAX_LINE + 1), b""), start=1):
        rest = raw
        while len(raw) > MAX_LINE and rest and not rest.endswith(b"\n"):
            rest = stream.readline(1 << 20)
        yield number, raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw


def decode_line(raw: bytes) -> str:
    """Decode a line; refuse one that is too long, no UTF-8, or holds a NUL byte."""
    if len(raw) > MAX_LINE:
        raise Malformed(f"The line is longer than {MAX_LINE >> 20} MiB. Are the line ends missing?")
    if b"\0" in raw:
        raise Malformed(f"NUL byte at byte {raw.index(0)} of the line: this is no text file, or it is damaged.")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"0x{raw[error.start]:02x} at byte {error.start} of the line"
        said = "Save the file as UTF-8, or say how it is encoded: encoding='windows-1252' (--encoding)."
        raise Malformed(f"Not valid UTF-8 ({found}). {said}") from None


def chomp(line: str) -> str:
    """Return the line without its line end."""
    return line.removesuffix("\n").removesuffix("\r")


def parse_lines(file: OpenFile, reading: Reading, parse: Callable[[int, str], _T]) -> Iterator[_T]:
    """Give what ``parse(number, line)`` makes of each line that is not blank, and name what is malformed."""
    for number, raw in raw_lines(file.stream):
        with reading.noting(file.name, number):
            if (line := decode_line(raw)).strip():
                yield parse(number, line)


def read_whole(file: OpenFile, what: str, most: int = MAX_LINE) -> bytes:
    """Return all bytes of a file that has no more than ``most``."""
    data = file.stream.read(most + 1)
    if len(data) > most:
        raise Malformed(f"{what} may have {most >> 20} MiB at most. Split it.")
    return data
