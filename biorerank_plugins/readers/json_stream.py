"""A list of objects in one large JSON document, given one object at a time.

What is not well-formed, or no such list, is a :class:`ReaderError`: nobody knows where the next object begins.
"""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Generator, Iterator
from typing import Any

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.readers.lines import MAX_LINE
from biorerank_plugins.readers.records import DECODER
from biorerank_plugins.readers.report import Malformed
from biorerank_plugins.readers.source import OpenFile

_BLOCK = 1 << 16
_BLANK = re.compile(r"[ \t\r\n]*")
EACH = "[]"
"""In a path of keys: each item of a list."""


def array_items(file: OpenFile, *path: str) -> Iterator[tuple[int, Any]]:
    """Give ``(line, item)`` of the list under a path of keys, or of the list that the document is.

    The memory holds one item at a time (of 16 MiB at most).

    :param path: keys from the top object down, as ``"resultList", "result"``; :data:`EACH` goes into a list.
    """
    text = _Text(file)
    if text.peek() == "[" and path[:1] != (EACH,):
        path = ()
    found = yield from _under(text, path)
    if not found:
        raise text.error(f"The document has no list {'.'.join(path)!r}.")
    _end(text)


def object_items(file: OpenFile) -> Iterator[tuple[int, str, Any]]:
    """Give ``(line, key, value)`` of the object that a document is, one at a time."""
    text = _Text(file)
    for line, key in _keys(text):
        yield line, key, text.value()
    _end(text)


def _end(text: _Text) -> None:
    if text.peek():
        raise text.error("Expected the end of the document, got more text. One object a line is JSONL.")


def _under(text: _Text, path: tuple[str, ...]) -> Generator[tuple[int, Any], None, bool]:
    """Give the items of the list under a path; return whether there is one."""
    opening = "[" if path[:1] in ((), (EACH,)) else "{"
    if text.peek() != opening:
        text.value()
        return False
    found = not path
    for line, key in _keys(text) if opening == "{" else ((line, EACH) for line in _places(text, "[", "]")):
        if not path:
            yield line, text.value()
        elif key == path[0]:
            found |= yield from _under(text, path[1:])
        else:
            text.value()
    return found


def _keys(text: _Text) -> Iterator[tuple[int, str]]:
    """Give the keys of an object with their lines; whoever asks takes the value."""
    for line in _places(text, "{", "}"):
        if not isinstance(key := text.value(), str):
            raise text.error("Not valid JSON: a key must be a string.")
        text.take(":")
        yield line, key


def _places(text: _Text, opening: str, closing: str) -> Iterator[int]:
    """Give the line of each item of a list, or of each key of an object; whoever asks takes what stands there."""
    text.take(opening)
    while text.peek() != closing:
        yield text.line
        if text.peek() != closing:
            text.take(",")
    text.take(closing)


class _Text:
    """A window on the text of a document."""

    def __init__(self, file: OpenFile) -> None:
        self.line = 1  # of the next character
        self._name = file.name
        self._stream: io.BufferedReader = file.stream
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._window = ""
        self._position = 0
        self._ended = False

    def error(self, message: str) -> ReaderError:
        return ReaderError(message, self._name, self.line)

    def peek(self) -> str:
        """Return the next character that is no white space, without taking it; ``""`` at the end."""
        while True:
            blank = _BLANK.match(self._window, self._position)
            self._advance(blank.end() if blank else self._position)
            if self._position < len(self._window):
                return self._window[self._position]
            if not self._fill(_BLOCK):
                return ""

    def take(self, character: str) -> None:
        found = self.peek()
        if found != character:
            raise self.error(f"Not valid JSON: expected {character!r}, got {found!r}.")
        self._advance(self._position + 1)

    def value(self) -> Any:
        """Take a value of any type."""
        self.peek()
        size = _BLOCK
        while True:
            try:
                value, end = DECODER.raw_decode(self._window, self._position)
            except json.JSONDecodeError as problem:
                # Either the value goes on behind the window, or it is wrong.
                if not self._fill(size):
                    raise self.error(f"Not valid JSON: {problem.msg}.") from None
            except RecursionError:
                raise self.error("The JSON is nested too deeply.") from None
            except (Malformed, ValueError) as problem:
                raise self.error(str(problem)) from None
            else:
                # A number at the very end of the window may go on behind it.
                if end < len(self._window) or not self._fill(size):
                    self._advance(end)
                    return value
            size *= 2  # so that a long value is not decoded once a block
            if len(self._window) - self._position > MAX_LINE:
                raise self.error(f"Not valid JSON, or one value is longer than {MAX_LINE >> 20} MiB.")

    def _advance(self, position: int) -> None:
        self.line += self._window.count("\n", self._position, position)
        self._position = position

    def _fill(self, size: int) -> bool:
        """Read on; return False at the end of the document."""
        if self._ended:
            return False
        block = self._stream.read(size)
        self._ended = not block
        try:
            more = self._decode(block, final=self._ended)
        except UnicodeDecodeError as problem:
            raise self.error(f"Not valid UTF-8 (byte 0x{problem.object[problem.start]:02x}).") from None
        if "\0" in more:
            raise self.error("NUL byte: this is no text file, or it is damaged.")
        self._window = self._window[self._position :] + more
        self._position = 0
        return not self._ended or bool(more)
