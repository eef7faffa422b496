"""Compressed inputs: gzip, bzip2, xz and Zstandard, recognised by their first bytes; text of another encoding."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from biorerank_plugins.errors import require_extra

BLOCK = 1 << 16

DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)
"""What the libraries raise for data that are damaged or cut short (bzip2 raises OSError)."""

_FIRST = {
    "gzip": re.compile(rb"\x1f\x8b"),
    "bzip2": re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"),
    "xz": re.compile(rb"\xfd7zXZ\0"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd"),
}
_AT_ONCE = 1024  # bytes given to Zstandard in one step: a few of them may become megabytes
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# What says itself how it is encoded, or is no text.
_DECLARED = re.compile(rb"\s*<(\?xml|!doctype|html)|%PDF-|PAR1\x15|PK\x03\x04", re.IGNORECASE)


def compression_of(head: bytes) -> str | None:
    """Return the name of the compression, ``None`` for plain data."""
    return next((name for name, magic in _FIRST.items() if magic.match(head)), None)


def unpacked(raw: io.BufferedReader, name: str) -> io.BufferedReader:
    """Return a stream of the plain data; Zstandard needs the extra ``formats``."""
    opened: dict[str, Callable[[Any], Any]] = {
        "gzip": lambda packed: gzip.GzipFile(fileobj=packed),
        "bzip2": bz2.BZ2File,
        "xz": lzma.LZMAFile,
        "zstd": lambda packed: _Filled(_zstandard(packed)),
    }
    return io.BufferedReader(opened[name](raw), BLOCK)


class _Filled(io.RawIOBase):
    """A stream of blocks of which each read is as long as it was asked for, until the end."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        super().__init__()
        self._blocks = blocks
        self._ready = bytearray()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while len(self._ready) < len(buffer) and (more := next(self._blocks, None)) is not None:
            self._ready += more
        given = self._ready[: len(buffer)]
        del self._ready[: len(given)]
        buffer[: len(given)] = given
        return len(given)


def _zstandard(raw: io.BufferedReader) -> Iterator[bytes]:
    """Give the plain data of all frames; the library's own stream takes a frame that is cut short for a whole one."""
    with require_extra("formats"):
        import zstandard
    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    frame: Any = None
    while block := raw.read(_AT_ONCE):
        while block:
            frame = frame or decompressor.decompressobj()
            try:
                yield frame.decompress(block)
            except zstandard.ZstdError as error:
                raise EOFError(str(error)) from error
            block = frame.unused_data
            if frame.eof:
                frame = None
    if frame is not None:
        raise EOFError("the last frame is not complete")


def check_encoding(encoding: str | None) -> str | None:
    """Return the name by which Python knows an encoding of text; ``None`` for UTF-8."""
    if encoding is None:
        return None
    try:
        found = codecs.lookup(encoding)
        "".encode(found.name)  # what codecs.lookup knows need not be of text: "zip", "rot13"
    except (LookupError, ValueError) as error:
        raise ValueError(f"encoding={encoding!r} is no encoding of text. Examples: utf-16, windows-1252.") from error
    return None if found.name in ("utf-8", "utf-8-sig") else found.name


def encoded_as(head: bytes, given: str | None) -> str | None:
    """Return how a text has to be decoded; ``None`` where it is UTF-8, or says itself what it is."""
    if head.startswith(_UTF16):
        return None if head[:256].decode("utf-16", "ignore").lstrip().startswith("<") else "utf-16"
    if given is None or head.startswith(codecs.BOM_UTF8) or _DECLARED.match(head) or _is_utf8(head):
        return None
    return given


def _is_utf8(head: bytes) -> bool:
    """Tell UTF-8 with more than ASCII in it: a folder may hold both, and no other text looks like that by chance."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return not head.isascii()


def recoded(stream: io.BufferedReader, encoding: str) -> io.BufferedReader:
    """Return a stream of the same text in UTF-8; reading it raises :class:`UnicodeDecodeError` where it is another."""
    texts = codecs.iterdecode(iter(lambda: stream.read(BLOCK), b""), encoding)
    return io.BufferedReader(_Filled(text.encode("utf-8", "surrogatepass") for text in texts), BLOCK)
