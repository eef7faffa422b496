"""TREC topics: the classic form (``<top><num> … <title> … <desc> …``) and XML (``<topics><topic number=…>``).

The question of a topic is its ``question``, ``summary``, ``description`` (``desc``), ``need``, ``query`` or ``title``,
the first that is there; a topic without such parts (TREC Clinical Trials) is one text.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import Any

from biorerank_plugins.readers.lines import decode_line, read_whole
from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.readers.source import OpenFile

_PARTS = ("question", "summary", "description", "desc", "need", "query", "title")
_IDS = ("number", "num", "id", "qid")
_CLASSIC = re.compile(r"\s*<top>", re.IGNORECASE)
_XML = re.compile(
    r"\s*(?:<\?[^>]*\?>\s*|<!DOCTYPE[^>\[]*>\s*|<!--(?:(?!-->).)*-->\s*)*<topics[\s>]", re.IGNORECASE | re.DOTALL
)
_PIECE = re.compile(r"<(\w+)>((?:(?!<\w+>).)*)", re.DOTALL)
_LABEL = re.compile(r"(?:number|topic|description|narrative|title)\s*:", re.IGNORECASE)
_CLOSING = re.compile(r"</\w+>")
_MAX_BYTES = 1 << 26


def is_topics(begin: bytes) -> bool:
    """Tell a list of topics by its beginning, without a byte order mark."""
    text = begin.decode("utf-8", "ignore")
    return _CLASSIC.match(text) is not None or _XML.match(text) is not None


def topic_records(file: OpenFile) -> Iterator[tuple[int, dict[str, Any]]]:
    """Give ``(number, {"id", "question"})`` of each topic; one that lacks either ends the reading."""
    with Reading().noting(file.name):
        data = read_whole(file, "A list of topics", _MAX_BYTES).removeprefix(codecs.BOM_UTF8)
        is_classic = _CLASSIC.match(data[:4096].decode("utf-8", "ignore"))
        for number, topic in enumerate(_classic(data) if is_classic else _from_xml(data), start=1):
            yield number, _record(topic)


def _classic(data: bytes) -> Iterator[dict[str, str]]:
    text = "".join(map(decode_line, data.splitlines(keepends=True)))
    for block in re.split(r"<top>", text, flags=re.IGNORECASE)[1:]:
        found: dict[str, str] = {}
        for piece in _PIECE.finditer(block):
            value = " ".join(_CLOSING.sub(" ", piece[2]).split())
            found.setdefault(piece[1].lower(), _LABEL.sub("", value, count=1).strip() if _LABEL.match(value) else value)
        yield found


def _from_xml(data: bytes) -> Iterator[dict[str, str]]:
    from lxml import etree

    from biorerank_plugins.readers.xml import no_entities, readable

    try:
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True)
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as problem:
        raise Malformed(f"Not well-formed XML: {problem}.") from None
    no_entities(root)
    for topic in root:
        if not isinstance(topic.tag, str):
            continue
        found = {name.lower(): value for name, value in topic.attrib.items()}
        for child in topic:
            found[str(child.tag).lower()] = readable(child)
        found.setdefault("title", readable(topic))
        yield found


def _record(topic: dict[str, str]) -> dict[str, Any]:
    id_ = next((topic[name] for name in _IDS if topic.get(name)), "")
    text = next((topic[name] for name in _PARTS if topic.get(name)), "")
    if not id_ or not text:
        raise Malformed(f"A topic has no {'text' if id_ else 'number'}; it has: {', '.join(topic) or 'nothing'}.")
    return {"id": id_, "question": text}
