"""XML that somebody else wrote: element by element, nothing fetched, no entity expanded, nothing held for long.

Answers of efetch are often put together in one file, so that one XML document follows another; they are read as one.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

from lxml import etree

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.readers.lines import MAX_LINE
from biorerank_plugins.readers.markup import raised
from biorerank_plugins.readers.report import Malformed
from biorerank_plugins.readers.source import OpenFile

_SAFE = {"resolve_entities": False, "no_network": True, "load_dtd": False, "huge_tree": False}
_CHUNK = 1 << 15
_BLOCKS = frozenset(
    {"p", "title", "list", "list-item", "def-list", "def-item", "def", "disp-quote", "caption", "break"}
)


def check_head(file: OpenFile, roots: Sequence[str], what: str) -> str:
    """Refuse other XML, and entity declarations, before anything is parsed at length.

    :param what: is expected, in words.
    :returns: the root's name, as it is written.
    """
    parser = etree.XMLPullParser(events=("start",), **_SAFE)
    root = None
    try:
        for start in range(0, len(file.head), 1024):  # no further than the root: another document may follow
            parser.feed(file.head[start : start + 1024])
            if (root := next((element for _, element in parser.read_events()), None)) is not None:
                break
    except etree.XMLSyntaxError as problem:
        raise _syntax_error(problem, file.name) from None
    if root is None:
        raise ReaderError(f"No XML element in the first 64 KiB: expected {what}.", file.name)
    _check_declarations(root, file.name)
    name = local_name(root)
    if name not in roots:
        raise ReaderError(f"Expected {what}, got <{name[:80]}>.", file.name)
    return f"{root.prefix}:{name}" if root.prefix else name


def elements(
    stream: io.BufferedReader, name: str, root: str, tags: Sequence[str], what: str
) -> Iterator[tuple[int, Any]]:
    """Give ``(line, element)`` of each element, ``what`` in words; it is emptied before the next one comes."""
    for before, blocks in _documents(stream, root):
        document = _Document(blocks, ReaderError(f"No {what} ends within {MAX_LINE >> 20} MiB of text.", name))
        events = etree.iterparse(document, events=("end",), tag=tags, remove_comments=True, remove_pis=True, **_SAFE)
        is_first = True
        try:
            for _, element in events:
                if is_first:
                    _check_declarations(element, name)
                    is_first = False
                document.room = MAX_LINE
                yield before + (element.sourceline or 0), element
                _forget(element, tags)
        except etree.XMLSyntaxError as problem:
            raise _syntax_error(problem, name, before) from None


def _documents(stream: io.BufferedReader, root: str) -> Iterator[tuple[int, Iterator[bytes]]]:
    """Give the lines before each document of a file, and its bytes, which are to be read before the next one comes."""
    closing = re.compile(rb"</" + re.escape(root.encode()) + rb"\s*>")
    lines, behind = 0, b""

    def blocks() -> Iterator[bytes]:
        nonlocal lines, behind
        tail, found = b"", None
        while found is None and (block := behind or stream.read(_CHUNK)):
            found = closing.search(tail + block)
            end = len(block) if found is None else found.end() - len(tail)
            block, behind = block[:end], block[end:]
            tail = (tail + block)[-80:]
            lines += block.count(b"\n")
            yield block

    while True:
        begin = behind.lstrip()  # what stands before the declaration of a document is no part of it
        lines += behind.count(b"\n", 0, len(behind) - len(begin))
        behind = begin or stream.read(_CHUNK)
        if begin:
            yield lines, blocks()
        elif not behind:
            return


class _Document:
    """A document that a parser reads as long as something ends in it now and then.

    The parser keeps whatever has not ended, so that the memory would grow with it.
    """

    def __init__(self, blocks: Iterator[bytes], too_long: ReaderError) -> None:
        self.room = MAX_LINE
        self._blocks, self._too_long = blocks, too_long

    def read(self, size: int) -> bytes:
        block = next(self._blocks, b"")
        self.room -= len(block)
        if self.room < 0:
            raise self._too_long
        return block


def _forget(element: Any, tags: Sequence[str]) -> None:
    """Empty an element; take away what stands before it, and before what it stands in (the records of an envelope)."""
    element.clear()
    is_inner = next(element.iterancestors(*tags), None) is not None  # of one that is still to come
    for place in [element, *(() if is_inner else element.iterancestors())]:
        while place.getprevious() is not None:
            del place.getparent()[0]


def _check_declarations(element: Any, name: str) -> None:
    dtd = element.getroottree().docinfo.internalDTD
    if dtd is not None and next(dtd.iterentities(), None) is not None:
        raise ReaderError("The file declares XML entities. Files of articles have none; it is not read.", name)


def _syntax_error(problem: Any, name: str, before: int = 0) -> ReaderError:
    reason = str(problem.msg).partition(", line ")[0]  # the place is said in our own way
    return ReaderError(f"Not well-formed XML: {reason}.", name, before + problem.lineno if problem.lineno else None)


def local_name(element: Any) -> str:
    """Return an element's name without its namespace; lxml's own way refuses some names that its parser lets pass."""
    return str(element.tag).rpartition("}")[2].rpartition(":")[2]


def no_entities(element: Any) -> None:
    """Refuse a record that holds an entity: nobody knows what it stands for."""
    if (entity := next(element.iter(etree.Entity), None)) is not None:
        raise Malformed(f"The record holds the entity {entity.text[:40]}, which is not expanded.")


def readable(element: Any, left_out: Sequence[str] = ()) -> str:
    """Return the text in an element and its inline markup, with single spaces; ``""`` for ``None``.

    A number that is raised or lowered behind a digit keeps its place: ``10<sup>6</sup>`` is 10^6, not 106; H2O, Ca2+
    and CD4+ are written as everywhere. Elements whose names are left out are no part of the text.
    """
    parts: list[str] = []
    if element is not None:
        _add_text(element, left_out, parts, 0)
    return " ".join("".join(parts).split())


def _add_text(element: Any, left_out: Sequence[str], parts: list[str], depth: int) -> None:
    if element.text:
        parts.append(element.text)
    for child in element if depth < 200 else ():
        if isinstance(child.tag, str) and (name := local_name(child)) not in left_out:
            inner: list[str] = []
            _add_text(child, left_out, inner, depth + 1)
            text = raised(name, parts[-1] if parts else "", "".join(inner))
            parts.append(f" {text} " if name in _BLOCKS else text)
        if child.tail:
            parts.append(child.tail)
