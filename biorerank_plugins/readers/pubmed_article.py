"""One element of PubMed XML ► one passage."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.report import Malformed
from biorerank_plugins.readers.xml import no_entities, readable

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
    no_entities(element)
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
    text, source = _abstract(article, top)
    metadata = {"pmid": pmid, "version": version, **_metadata(element, top, article)}
    if source:
        metadata["abstract_source"] = source
    if text:
        return Passage(pmid, text, title, metadata)
    if title is None:
        raise Malformed(f"PMID {pmid} has neither abstract nor title.")
    return Passage(pmid, title, None, {"section": "title", **metadata})


def _title(article: Any) -> str | None:
    for path in ("ArticleTitle", "VernacularTitle", "Book/BookTitle"):
        title = readable(article.find(path))
        if title and title != "[Not Available].":
            return title
    return None


def _abstract(article: Any, top: Any) -> tuple[str, str]:
    """Return the abstract, and where it is from if it is another one than PubMed's own."""
    if text := _sections(article.find("Abstract")):
        return text, ""
    for other in top.iterfind("OtherAbstract"):
        if text := _sections(other):
            said = [other.get("Type") or "", other.get("Language") or ""]
            return text, " ".join(part for part in said if part) or "other"
    return "", ""


def _sections(abstract: Any) -> str:
    sections = []
    for section in () if abstract is None else abstract.iterfind("AbstractText"):
        text = readable(section)
        label = " ".join((section.get("Label") or "").split())
        if text:
            sections.append(text if label.upper() in _NO_LABEL else f"{label}: {text}")
    return "\n".join(sections)


def _metadata(element: Any, top: Any, article: Any) -> dict[str, Any]:
    """Return what is known; what is not is left out, except what is told of retractions."""
    types = _all(article, ".//PublicationType")
    found = {
        "year": _year(element, article),
        "revised": _first_year([top.find("DateRevised")]),
        "journal": _journal(top, article),
        "doi": _article_id(element, "doi", article.iterfind("ELocationID[@EIdType='doi']")),
        "pmcid": _article_id(element, "pmc"),
        "authors": [name for author in article.iterfind("AuthorList[1]/Author") if (name := _author(author))],
        "language": readable(article.find("Language")),
        "vernacular_title": readable(article.find("VernacularTitle")),
        "mesh": _all(top, "MeshHeadingList/MeshHeading/DescriptorName"),
        "keywords": _all(top, "KeywordList/Keyword"),
        "publication_types": types,
    }
    notices = {notice.get("RefType") for notice in top.iterfind("CommentsCorrectionsList/CommentsCorrections")}
    return {name: value for name, value in found.items() if value} | {
        "retracted": _RETRACTED in types or "RetractionIn" in notices,
        "expression_of_concern": "ExpressionOfConcernIn" in notices,
    }


def _all(element: Any, path: str) -> list[str]:
    return [text for found in element.iterfind(path) if (text := readable(found))]


def _author(author: Any) -> str:
    names = [readable(author.find(part)) for part in ("LastName", "ForeName")]
    return ", ".join(name for name in names if name) or readable(author.find("CollectiveName"))


def _year(element: Any, article: Any) -> int | None:
    dates = [date for path in _DATES for date in article.iterfind(path)]
    # Entrez dates come last: the day PubMed took the record in.
    return _first_year([*dates, *element.iterfind("*/History/PubMedPubDate[@PubStatus='pubmed']")])


def _first_year(dates: Iterable[Any]) -> int | None:
    for date in dates:
        for part in () if date is None else (date.find("Year"), date.find("MedlineDate")):
            if found := _YEAR.search(readable(part)):
                return int(found[0])
    return None


def _journal(top: Any, article: Any) -> str | None:
    full, short = article.find("Journal/Title"), article.find("Journal/ISOAbbreviation")
    return readable(full) or readable(short) or readable(top.find("MedlineJournalInfo/MedlineTA")) or None


def _article_id(element: Any, kind: str, better: Iterable[Any] = ()) -> str | None:
    """Return an id of the article: the publisher's valid one, else the one in the article's list of ids."""
    # Only these lists: references have ArticleIdLists of their own.
    places = [*better, *element.iterfind(f"*/ArticleIdList/ArticleId[@IdType='{kind}']")]
    return next((id_ for place in places if place.get("ValidYN", "Y") != "N" and (id_ := readable(place))), None)
