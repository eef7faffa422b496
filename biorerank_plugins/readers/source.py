"""Opening an input: a path or a binary stream, compressed or not, with a look at how it begins."""

from __future__ import annotations

import codecs
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.readers.compression import DAMAGED, compression_of, encoded_as, recoded, unpacked

PathOrStream: TypeAlias = str | Path | BinaryIO

HEAD = 1 << 16
"""How many bytes of the beginning decide on the format."""

_SPOOL_BLOCK = 1 << 20
# ZIP (Office files too) and Parquet: their tables of contents stand at the end.
_READ_FROM_THE_END = (b"PK\x03\x04", b"PAR1\x15")


@dataclass(frozen=True, slots=True)
class OpenFile:
    """An input that is open."""

    name: str  # how errors call it
    id: str  # path relative to the folder that is read (a file's name if it was given by itself)
    stream: io.BufferedReader  # the bytes, unpacked; text of another encoding than UTF-8 is recoded
    head: bytes  # the first 64 KiB of the stream (less if it is shorter), not consumed
    rewindable: bool  # whether stream.seek(0) works
    encoding: str | None = None  # what the caller says of text that is not UTF-8

    @property
    def begin(self) -> bytes:
        """The head without a byte order mark and blanks."""
        return self.head.removeprefix(codecs.BOM_UTF8).lstrip()

    @contextmanager
    def twice(self) -> Iterator[io.BufferedReader]:
        """Give a stream that can be read, sent back by ``seek(0)`` and read again."""
        if self.rewindable:
            yield self.stream
            return
        with tempfile.TemporaryFile() as spool:
            yield _spooled(self.stream, spool)


def _spooled(stream: io.BufferedReader, spool: Any) -> io.BufferedReader:
    while block := stream.read(_SPOOL_BLOCK):
        spool.write(block)
    spool.seek(0)
    return cast(io.BufferedReader, spool)


@dataclass(frozen=True, slots=True)
class Source:
    """An input that can be opened."""

    name: str
    id: str
    target: Path | BinaryIO  # the caller's binary stream stays open

    @contextmanager
    def open(self, encoding: str | None = None) -> Iterator[OpenFile]:
        """Open the input, through whatever its first bytes say that it is compressed with.

        What cannot be read, or turns out to be damaged while it is read, is a :class:`ReaderError`.

        :param encoding: of text that is not UTF-8, by the name that ``check_encoding`` gives.
        """
        with _errors_of(self.name), ExitStack() as stack:
            stream = self._buffered(stack)
            rewindable = isinstance(self.target, Path) and stream.seekable()
            packed = compression_of(stream.peek(HEAD))
            if packed is not None:
                stack.enter_context(_errors_of(self.name, packed))
                stream = unpacked(stream, packed)
                rewindable = rewindable and packed != "zstd"
            head = stream.peek(HEAD)
            if head.startswith(_READ_FROM_THE_END) and (packed is not None or not rewindable):
                stream, rewindable = _spooled(stream, stack.enter_context(tempfile.TemporaryFile())), True
            elif (wanted := encoded_as(head, encoding)) is not None:
                stream, rewindable = recoded(stream, wanted), False
                head = stream.peek(HEAD)
            yield OpenFile(self.name, self.id, stream, head, rewindable, encoding)

    def _buffered(self, stack: ExitStack) -> io.BufferedReader:
        inner: io.BufferedReader
        if isinstance(self.target, Path):
            inner = stack.enter_context(io.BufferedReader(self.target.open("rb", buffering=0), HEAD))
            if inner.seekable():
                return inner
        else:
            inner = io.BufferedReader(cast(io.RawIOBase, self.target), HEAD)
            stack.callback(inner.detach)  # the caller's stream is not ours to close
        # A second layer, since a pipe gives little at a time: it asks again until a full head has come.
        outer: io.BufferedReader = io.BufferedReader(cast(io.RawIOBase, inner), HEAD)
        stack.callback(outer.detach)
        return outer


@contextmanager
def _errors_of(name: str, packed: str = "compressed") -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        byte = f"byte 0x{error.object[error.start]:02x}"
        raise ReaderError(f"The text is not {error.encoding} ({byte}).", name) from error
    except (*DAMAGED, OSError) as error:
        problem = f"The {packed} data are damaged or cut short ({error}). Get the file again."
        # Without a number it is no error of the operating system, but the library's own.
        if isinstance(error, OSError) and (error.errno is not None or isinstance(error, io.UnsupportedOperation)):
            problem = f"Cannot be read: {error.strerror or error}."
        raise ReaderError(problem, name) from error


def source_of(path: PathOrStream) -> Source:
    """Wrap what a caller gave, a path that is there or a binary stream; nothing is read yet."""
    if isinstance(path, (str, Path)):
        if path == "":
            raise ReaderError("The path is empty. Give a file or a folder.")
        # A path may be a pipe such as /dev/stdin; os.path.exists is quiet about characters that no path can hold.
        if not os.path.exists(path):
            raise ReaderError("There is no such file or folder.", str(path))
        target = Path(path)
        return Source(str(target), target.name, target)
    if isinstance(path, io.TextIOBase):
        raise TypeError("Expected a binary stream, got a text stream: pass stream.buffer, or open the file with 'rb'.")
    if not hasattr(path, "readinto"):
        raise TypeError(f"Expected a path or a binary stream, got {type(path).__name__}.")
    name = getattr(path, "name", None)
    name = name if isinstance(name, str) and name else "<stream>"
    return Source(name, name, path)
