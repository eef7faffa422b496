"""One element of PubMed XML ► one passage."""

from __future__ import annotations

import re
from typing import Any

from lxml import etree

from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.report import Malformed

__all__ = ["article_passage", "pmid_and_version"]

_YEAR = re.compile(r"(?<!\d)(?:1[5-9]|20)\d\d(?!\d)", re.ASCII)
# Labels that say "this section has none".
_NO_LABEL = {"", "UNLABELLED", "UNLABELED", "UNASSIGNED"}
# From the best date (that of the issue) to what every record has.
_DATES = ("Journal/JournalIssue/PubDate", "Book/PubDate", "ArticleDate", "ContributionDate")
_RETRACTED = "Retracted Publication"


def pmid_and_version(element: Any) -> tuple[str, int]:
    """Return what a ``PMID`` element says; ``("", 1)`` if there is none.

    :param element: the element or ``None``.
    """
    if element is None:
        return "", 1
    version = (element.get("Version") or "1").strip()
    # Four digits: int() refuses none of them, and no article has ten thousand versions.
    return (element.text or "").strip(), int(version) if re.fullmatch(r"[0-9]{1,4}", version) else 1


def article_passage(element: Any) -> Passage:
    """Return the passage of a ``PubmedArticle`` or ``PubmedBookArticle`` element.

    :raises Malformed: if it has no PMID, neither title nor abstract, or holds an entity.
    """
    if (entity := next(element.iter(etree.Entity), None)) is not None:
        raise Malformed(f"The record holds the entity {entity.text[:40]}, which is not expanded.")
    citation = element.find("MedlineCitation")
    book = element.find("BookDocument")
    # In a book the title and abstract stand beside the PMID, in a journal under Article.
    article = book if citation is None else citation.find("Article")
    top = book if citation is None else citation
    if article is None:
        raise Malformed("The record has no Article.")
    pmid, version = pmid_and_version(top.find("PMID"))
    if not re.fullmatch(r"[0-9]+", pmid):
        raise Malformed(f"The record has no PMID (found {pmid[:40]!r}).")
    title = _title(article)
    text = _abstract(article)
    metadata = {"pmid": pmid, "version": version, **_metadata(element, top, article)}
    if text:
        return Passage(pmid, text, title, metadata)
    if title is None:
        raise Malformed(f"PMID {pmid} has neither abstract nor title.")
    return Passage(pmid, title, None, {"section": "title", **metadata})


def _title(article: Any) -> str | None:
    for path in ("ArticleTitle", "VernacularTitle", "Book/BookTitle"):
        if title := _text(article.find(path)):
            return title
    return None


def _abstract(article: Any) -> str:
    sections = []
    for section in article.iterfind("Abstract/AbstractText"):
        text = _text(section)
        label = " ".join((section.get("Label") or "").split())
        if text:
            sections.append(text if label.upper() in _NO_LABEL else f"{label}: {text}")
    return "\n".join(sections)


def _metadata(element: Any, top: Any, article: Any) -> dict[str, Any]:
    """Return what is known; what is not is left out, except ``retracted``."""
    types = [name for kind in article.iter("PublicationType") if (name := _text(kind))]
    found = {
        "year": _year(element, article),
        "journal": _journal(top, article),
        "doi": _doi(element, article),
        "publication_types": types,
    }
    retracted = _RETRACTED in types or top.find("CommentsCorrectionsList/*[@RefType='RetractionIn']") is not None
    return {name: value for name, value in found.items() if value} | {"retracted": retracted}


def _year(element: Any, article: Any) -> int | None:
    dates = [date for path in _DATES for date in article.iterfind(path)]
    # Entrez dates come last: the day PubMed took the record in.
    dates += element.iterfind("*/History/PubMedPubDate[@PubStatus='pubmed']")
    for date in dates:
        for part in (date.find("Year"), date.find("MedlineDate")):
            if found := _YEAR.search(_text(part)):
                return int(found[0])
    return None


def _journal(top: Any, article: Any) -> str | None:
    full, short = article.find("Journal/Title"), article.find("Journal/ISOAbbreviation")
    return _text(full) or _text(short) or _text(top.find("MedlineJournalInfo/MedlineTA")) or None


def _doi(element: Any, article: Any) -> str | None:
    """Return the DOI: the publisher's valid one, else the one in the article's list of ids."""
    places = [
        *article.iterfind("ELocationID[@EIdType='doi']"),
        # Only these lists: references have ArticleIdLists of their own.
        *element.iterfind("*/ArticleIdList/ArticleId[@IdType='doi']"),
    ]
    return next((doi for place in places if place.get("ValidYN", "Y") != "N" and (doi := _text(place))), None)


def _text(element: Any) -> str:
    """Return the text in an element and its inline markup, with single spaces; ``""`` for ``None``."""
    return "" if element is None else " ".join("".join(element.itertext()).split())
