"""PubMed/MEDLINE XML: one passage an article, as NLM publishes it (baseline, update files) or PubMed exports it.

The parser is lxml. ``pubmed_parser`` 0.5.1 was tried and left out: it loses text nested in inline markup
(``<i>in <sub>vivo</sub></i>`` becomes "in") and the DOI where a PII follows it, puts ``UNLABELLED`` into abstracts,
fails with ``AttributeError`` on records without a date, knows neither versions nor deletions, and brings requests, six
and unidecode.

* Text: the abstract, each labelled section on a line of its own (``METHODS: …``); where there is none, the first
  abstract of another source or language (``OtherAbstract``). A third of PubMed has no abstract at all: there the title
  is the text. A record with neither is malformed.
* Metadata: ``pmid``, ``version``, ``year``, ``revised`` (year), ``journal``, ``doi``, ``pmcid``, ``authors``,
  ``language``, ``vernacular_title``, ``mesh``, ``keywords``, ``publication_types``, ``abstract_source`` (where it is no
  abstract of PubMed's own), ``retracted``, ``expression_of_concern``.
* The highest version of a PMID in a file wins (of equal ones the last); what the file deletes is not given.

To know that before the first passage, a file is read twice; neither reading holds more than one article. Entities are
never expanded and nothing is fetched: a file that declares entities is refused.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.pubmed_article import article_passage, pmid_and_version
from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.readers.source import OpenFile
from biorerank_plugins.readers.xml import check_head, elements

_ROOTS = ("PubmedArticleSet", "PubmedBookArticleSet", "DeleteCitation", "PubmedArticle", "PubmedBookArticle")
_ARTICLES = ("PubmedArticle", "PubmedBookArticle")
_DELETIONS = ("DeleteCitation", "DeleteDocument")


def read(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give the passage of each article; deleted PMIDs go into the report.

    :raises ReaderError: if the file is no PubMed XML, is not well-formed, or declares entities.
    """
    root = check_head(file, _ROOTS, "PubMed XML (<PubmedArticleSet>)")
    with file.twice() as stream:
        current, deleted = _survey(stream, file.name, root)
        reading.report.deleted.extend(pmid for pmid in deleted if pmid not in current)
        kept = {position for _, position in current.values()}
        stream.seek(0)
        for position, (line, element) in enumerate(_elements(stream, file.name, root)):
            if element.tag in _DELETIONS or (position not in kept and _named(element)):
                continue
            try:
                passage = article_passage(element)
            except Malformed as problem:
                reading.bad(problem, file.name, line)
                continue
            yield passage


def _elements(stream: io.BufferedReader, name: str, root: str) -> Iterator[tuple[int, Any]]:
    return elements(stream, name, root, _ARTICLES + _DELETIONS, "article of PubMed")


def _survey(stream: io.BufferedReader, name: str, root: str) -> tuple[dict[str, tuple[int, int]], dict[str, int]]:
    """Return ``{PMID: (version, position)}`` of the articles that stay, and ``{PMID: version}`` of the deletions."""
    current: dict[str, tuple[int, int]] = {}
    deleted: dict[str, int] = {}
    for position, (_, element) in enumerate(_elements(stream, name, root)):
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
