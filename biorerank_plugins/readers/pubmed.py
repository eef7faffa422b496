"""PubMed/MEDLINE XML: one passage an article, as NLM publishes it (baseline, update files) or PubMed exports it.

The parser is lxml. ``pubmed_parser`` 0.5.1 was tried and left out: it loses text nested in inline markup
(``<i>in <sub>vivo</sub></i>`` becomes "in") and the DOI where a PII follows it, puts ``UNLABELLED`` into abstracts,
fails with ``AttributeError`` on records without a date, knows neither versions nor deletions, and brings requests, six
and unidecode.

* Text: the abstract, each labelled section on a line of its own (``METHODS: …``). A third of PubMed has no abstract:
  there the title is the text. A record with neither is malformed.
* Metadata: ``pmid``, ``version``, ``year``, ``journal``, ``doi``, ``publication_types``, ``retracted``.
* The highest version of a PMID in a file wins (of equal ones the last); what the file deletes is not given.

To know that before the first passage, a file is read twice; neither reading holds more than one article. Entities are
never expanded and nothing is fetched: a file that declares entities is refused.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from lxml import etree

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.lines import MAX_LINE
from biorerank_plugins.readers.pubmed_article import article_passage, pmid_and_version
from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.readers.source import OpenFile

__all__ = ["read"]

_SAFE = {"resolve_entities": False, "no_network": True, "load_dtd": False, "huge_tree": False}
_ROOTS = ("PubmedArticleSet", "PubmedBookArticleSet", "DeleteCitation", "PubmedArticle", "PubmedBookArticle")
_ARTICLES = ("PubmedArticle", "PubmedBookArticle")
_DELETIONS = ("DeleteCitation", "DeleteDocument")


def read(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give the passage of each article; deleted PMIDs go into the report.

    :raises ReaderError: if the file is no PubMed XML, is not well-formed, or declares entities.
    """
    _check_head(file)
    with file.twice() as stream:
        current, deleted = _survey(stream, file.name)
        reading.report.deleted.extend(pmid for pmid in deleted if pmid not in current)
        kept = {position for _, position in current.values()}
        stream.seek(0)
        for position, element in enumerate(_elements(stream, file.name)):
            if element.tag in _DELETIONS or (position not in kept and _named(element)):
                continue
            try:
                passage = article_passage(element)
            except Malformed as problem:
                reading.bad(problem, file.name, element.sourceline)
                continue
            yield passage


def _survey(stream: io.BufferedReader, name: str) -> tuple[dict[str, tuple[int, int]], dict[str, int]]:
    """Return ``{PMID: (version, position)}`` of the articles that stay, and ``{PMID: version}`` of the deletions."""
    current: dict[str, tuple[int, int]] = {}
    deleted: dict[str, int] = {}
    for position, element in enumerate(_elements(stream, name)):
        if element.tag in _DELETIONS:
            for child in element.iterchildren("PMID"):
                pmid, version = pmid_and_version(child)
                deleted[pmid] = max(version, deleted.get(pmid, 0))
        elif (named := _named(element)) is not None:
            pmid, version = named
            current[pmid] = max((version, position), current.get(pmid, (0, 0)))
    # A deletion names a version; a later one of the same article stays.
    for pmid, version in deleted.items():
        if pmid in current and current[pmid][0] <= version:
            del current[pmid]
    deleted.pop("", None)
    return current, deleted


def _named(article: Any) -> tuple[str, int] | None:
    """Return an article's PMID and version, ``None`` if it has no PMID."""
    pmid, version = pmid_and_version(article.find("*/PMID"))
    return (pmid, version) if pmid else None


def _check_head(file: OpenFile) -> None:
    """Refuse other XML, and entity declarations, before anything is parsed at length."""
    parser = etree.XMLPullParser(events=("start",), **_SAFE)
    try:
        parser.feed(file.head)
        root = next((element for _, element in parser.read_events()), None)
    except etree.XMLSyntaxError as problem:
        raise _syntax_error(problem, file.name) from None
    if root is None:
        raise ReaderError("No XML element in the first 64 KiB: expected <PubmedArticleSet>.", file.name)
    dtd = root.getroottree().docinfo.internalDTD
    if dtd is not None and next(dtd.iterentities(), None) is not None:
        raise ReaderError("The file declares XML entities. PubMed files have none; it is not read.", file.name)
    if root.tag not in _ROOTS:
        raise ReaderError(f"Expected PubMed XML (<PubmedArticleSet>), got <{root.tag[:80]}>.", file.name)


def _elements(stream: io.BufferedReader, name: str) -> Iterator[Any]:
    """Give each article and deletion list; an element is emptied before the next one comes."""
    bounded = _Bounded(stream, name)
    events = etree.iterparse(
        bounded, events=("end",), tag=_ARTICLES + _DELETIONS, remove_comments=True, remove_pis=True, **_SAFE
    )
    try:
        for _, element in events:
            bounded.start_again()
            yield element
            element.clear()
            while element.getprevious() is not None:
                del element.getparent()[0]
    except etree.XMLSyntaxError as problem:
        raise _syntax_error(problem, name) from None


class _Bounded:
    """The bytes of a file, as long as something ends in them now and then: the parser keeps whatever has not ended."""

    def __init__(self, stream: io.BufferedReader, name: str) -> None:
        self._stream, self._name = stream, name
        self._room = MAX_LINE

    def start_again(self) -> None:
        """Note that an article has ended."""
        self._room = MAX_LINE

    def read(self, size: int) -> bytes:
        """Return the next bytes.

        :raises ReaderError: if nothing has ended for too long.
        """
        block = self._stream.read(size)
        self._room -= len(block)
        if self._room < 0:
            raise ReaderError(f"No article of PubMed ends within {MAX_LINE >> 20} MiB of text.", self._name)
        return block


def _syntax_error(problem: Any, name: str) -> ReaderError:
    reason = str(problem.msg).partition(", line ")[0]  # the place is said in our own way
    return ReaderError(f"Not well-formed XML: {reason}.", name, problem.lineno or None)
