"""JATS, the full texts of PMC (``.nxml``) and many publishers: abstract and sections become passages.

Title, abstract, and the sections of the body with the captions of figures and tables, each under its headings
(``Methods > Patients``). Numbers of citations, reference lists, the cells of tables and TeX are left out. A file may
hold one article or a set of them (efetch's ``pmc-articleset``, OAI's envelope).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from lxml import etree

from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.readers.sections import ABSTRACT, Section, document_passages
from biorerank_plugins.readers.source import OpenFile
from biorerank_plugins.readers.xml import check_head, elements, local_name, no_entities, readable

ROOTS = ("article", "pmc-articleset", "OAI-PMH")
_NO_TEXT = ("ref-list", "tex-math", "table", "graphic", "media", "object-id", "label", "supplementary-material", "fn")
_CITED = re.compile(r"[\s\d,;*–—-]*")
_EMPTY_BRACKETS = re.compile(r"\s*[\[(][\s,;–—-]*[\])]")
_BEFORE_MARK = re.compile(r"\s+(?=[.,;:](?:\s|$))")
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_MAX_DEPTH = 50


def read(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give the passages of each article."""
    root = check_head(file, ROOTS, "JATS (<article>)")
    found = elements(file.stream, file.name, root, ("{*}article", "article"), "article")
    for number, (line, article) in enumerate(found, start=1):
        with reading.noting(file.name, line):
            no_entities(article)
            _prepare(article)
            yield from _passages(article, file.id if number == 1 else f"{file.id}.{number}", reading)


def _prepare(article: Any) -> None:
    """Take away namespaces, and the numbers of citations."""
    for element in article.iter(etree.Element):
        if (name := local_name(element)) != element.tag:
            with suppress(ValueError):  # what is no name stays what it is, and is not looked for
                element.tag = name
    for citation in article.iter("xref"):
        if citation.get("ref-type") == "bibr" and _CITED.fullmatch("".join(citation.itertext())):
            citation.text = None
            del citation[:]


def _passages(article: Any, fallback: str, reading: Reading) -> Iterator[Passage]:
    front = article.find("front")
    meta = None if front is None else front.find("article-meta")
    meta = article.find("front-stub") if meta is None else meta
    if meta is None:
        raise Malformed("The article has no <article-meta>.")
    ids = {one.get("pub-id-type"): readable(one) for one in meta.iterfind("article-id")}
    pmcid = ids.get("pmcid") or ids.get("pmc") or ""
    pmcid = f"PMC{pmcid}" if pmcid.isdigit() else pmcid
    metadata = {
        "pmid": ids.get("pmid"),
        "pmcid": pmcid,
        "doi": ids.get("doi"),
        "authors": [name for one in meta.iterfind("contrib-group/contrib") if (name := _author(one))],
        "journal": readable(front.find("journal-meta//journal-title")) if front is not None else "",
        "year": _year(meta),
        "publication_types": [article.get("article-type")] if article.get("article-type") else [],
        "keywords": [text for one in meta.iterfind("kwd-group/kwd") if (text := readable(one))],
        "language": article.get(_LANGUAGE),
    }
    id_ = pmcid or ids.get("pmid") or ids.get("doi") or fallback
    title = readable(meta.find("title-group/article-title"), _NO_TEXT)
    return document_passages(reading, id_, title, [*_abstract(meta), *_body(article)], metadata)


def _author(contributor: Any) -> str:
    if contributor.get("contrib-type", "author") != "author":
        return ""
    names = [readable(contributor.find(f".//{part}")) for part in ("surname", "given-names")]
    return ", ".join(name for name in names if name) or readable(contributor.find("collab"))


def _year(meta: Any) -> int | None:
    years = [readable(year) for year in meta.iterfind("pub-date/year")]
    found = [int(year) for year in years if re.fullmatch(r"(1[5-9]|20)[0-9]{2}", year)]
    return min(found, default=None)


def _abstract(meta: Any) -> Iterator[Section]:
    plain = [one for one in meta.iterfind("abstract") if not one.get("abstract-type")]
    for abstract in (plain or meta.findall("abstract") or meta.findall("trans-abstract"))[:1]:
        parts = list(_sections(abstract, ()))
        lines = [f"{part.heading}: {part.text}" if part.heading else part.text for part in parts]
        yield Section(ABSTRACT, "\n".join(" ".join(line.split()) for line in lines))


def _body(article: Any) -> Iterator[Section]:
    for part in ("body", "floats-group"):
        if (found := article.find(part)) is not None:
            yield from _sections(found, ())


def _sections(element: Any, above: tuple[str, ...]) -> Iterator[Section]:
    """Give what stands in an element itself, then its sections."""
    paragraphs: list[str] = []
    kind = element.get("sec-type") or ""
    for child in element.iterchildren(etree.Element):
        if child.tag == "sec":
            if paragraphs:
                yield Section(" > ".join(above), "\n\n".join(paragraphs), kind)
                paragraphs = []
            heading = _clean(readable(child.find("title"), _NO_TEXT))
            yield from _sections(child, (*above, heading) if heading and len(above) < _MAX_DEPTH else above)
        elif child.tag not in ("title", *_NO_TEXT):
            paragraphs += [text for block in _blocks(child) if (text := _clean(readable(block, _NO_TEXT)))]
    if paragraphs:
        yield Section(" > ".join(above), "\n\n".join(paragraphs), kind)


def _blocks(element: Any) -> Iterator[Any]:
    """Give the paragraphs of a block: of a figure or table its caption, of a list its items."""
    inner = {"fig": "caption", "table-wrap": "caption", "list": "list-item", "boxed-text": "*", "fig-group": "fig"}
    path = inner.get(element.tag)
    if path is None:
        yield element
        return
    yield from element.iterfind(path)


def _clean(text: str) -> str:
    return _BEFORE_MARK.sub("", _EMPTY_BRACKETS.sub("", text))
