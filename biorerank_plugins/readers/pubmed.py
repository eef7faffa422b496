"""PubMed/MEDLINE XML: one passage an article, as NLM publishes it (baseline, update files) or PubMed exports it.

The parser is lxml: ``pubmed_parser`` 0.5.1 loses text nested in inline markup and some DOIs, fails on records without a
date, and knows neither versions nor deletions.

* Text: the abstract, each labelled section on a line of its own (``METHODS: …``); where there is none, the first
  abstract of another source or language (``OtherAbstract``). A third of PubMed has no abstract at all: there the title
  is the text. A record with neither is malformed.
* ``abstract_source`` says of an abstract that is none of PubMed's own what it is; ``revised`` is a year.
* The highest version of a PMID in a file wins (of equal ones the last); what the file deletes is not given.

To know that before the first passage, a file is read twice; neither reading holds more than one article. Entities are
never expanded and nothing is fetched: a file that declares entities is refused.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from typing import Any

from biorerank_plugins.articles.identifiers import as_year
from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.records import article_passage
from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.readers.source import OpenFile
from biorerank_plugins.readers.xml import check_head, elements, no_entities, readable

_ROOTS = ("PubmedArticleSet", "PubmedBookArticleSet", "DeleteCitation", "PubmedArticle", "PubmedBookArticle")
_ARTICLES = ("PubmedArticle", "PubmedBookArticle")
_DELETIONS = ("DeleteCitation", "DeleteDocument")
# Labels that say "this section has none".
_NO_LABEL = {"", "UNLABELLED", "UNLABELED", "UNASSIGNED"}
# From the best date (that of the issue) to what every record has.
_DATES = ("Journal/JournalIssue/PubDate", "Book/PubDate", "ArticleDate", "ContributionDate")


def read(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give the passage of each article; deleted PMIDs go into the report."""
    root = check_head(file, _ROOTS, "PubMed XML (<PubmedArticleSet>)")
    with file.twice() as stream:
        current, deleted = _survey(stream, file.name, root)
        reading.report.deleted.extend(pmid for pmid in deleted if pmid not in current)
        kept = {position for _, position in current.values()}
        stream.seek(0)
        for position, (line, element) in enumerate(_elements(stream, file.name, root)):
            if element.tag in _DELETIONS or (position not in kept and _pmid_and_version(element.find("*/PMID"))[0]):
                continue
            with reading.noting(file.name, line):
                yield _passage(element)


def _elements(stream: io.BufferedReader, name: str, root: str) -> Iterator[tuple[int, Any]]:
    return elements(stream, name, root, _ARTICLES + _DELETIONS, "article of PubMed")


def _survey(stream: io.BufferedReader, name: str, root: str) -> tuple[dict[str, tuple[int, int]], dict[str, int]]:
    """Return ``{PMID: (version, position)}`` of the articles that stay, and ``{PMID: version}`` of the deletions."""
    current: dict[str, tuple[int, int]] = {}
    deleted: dict[str, int] = {}
    for position, (_, element) in enumerate(_elements(stream, name, root)):
        if element.tag in _DELETIONS:
            for child in element.iterchildren("PMID"):
                pmid, version = _pmid_and_version(child)
                deleted[pmid] = max(version, deleted.get(pmid, 0))
        else:
            pmid, version = _pmid_and_version(element.find("*/PMID"))
            current[pmid] = max((version, position), current.get(pmid, (0, 0)))
    current.pop("", None)
    # A deletion names a version; a later one of the same article stays.
    for pmid, version in deleted.items():
        if pmid in current and current[pmid][0] <= version:
            del current[pmid]
    deleted.pop("", None)
    return current, deleted


def _pmid_and_version(element: Any) -> tuple[str, int]:
    """Return what a ``PMID`` element says; ``("", 1)`` if there is none."""
    if element is None:
        return "", 1
    version = (element.get("Version") or "1").strip()
    # Four digits: int() refuses none of them, and no article has ten thousand versions.
    return (element.text or "").strip(), int(version) if re.fullmatch(r"[0-9]{1,4}", version) else 1


def _passage(element: Any) -> Passage:
    """Return the passage of a ``PubmedArticle`` or ``PubmedBookArticle`` element."""
    no_entities(element)
    citation = element.find("MedlineCitation")
    book = element.find("BookDocument")
    # In a book the title and abstract stand beside the PMID, in a journal under Article.
    article = book if citation is None else citation.find("Article")
    top = book if citation is None else citation
    if article is None:
        raise Malformed("The record has no Article.")
    pmid, version = _pmid_and_version(top.find("PMID"))
    if not re.fullmatch(r"[0-9]+", pmid):
        raise Malformed(f"The record has no PMID (found {pmid[:40]!r}).")
    titles = [readable(article.find(path)) for path in ("ArticleTitle", "VernacularTitle", "Book/BookTitle")]
    title = next((title for title in titles if title and title != "[Not Available]."), "")
    text, source = _abstract(article, top)
    metadata = {"pmid": pmid, "version": version, **_metadata(element, top, article), "abstract_source": source}
    return article_passage(pmid, text, title, metadata, name=f"PMID {pmid}")


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
    types = _all(article, ".//PublicationType")
    notices = {notice.get("RefType") for notice in top.iterfind("CommentsCorrectionsList/CommentsCorrections")}
    return {
        "year": _year(element, article),
        "revised": _first_year([top.find("DateRevised")]),
        "journal": readable(article.find("Journal/Title"))
        or readable(article.find("Journal/ISOAbbreviation"))
        or readable(top.find("MedlineJournalInfo/MedlineTA")),
        "doi": _article_id(element, "doi", article.iterfind("ELocationID[@EIdType='doi']")),
        "pmcid": _article_id(element, "pmc"),
        "authors": [name for author in article.iterfind("AuthorList[1]/Author") if (name := _author(author))],
        "language": readable(article.find("Language")),
        "vernacular_title": readable(article.find("VernacularTitle")),
        "mesh": _all(top, "MeshHeadingList/MeshHeading/DescriptorName"),
        "keywords": _all(top, "KeywordList/Keyword"),
        "publication_types": types,
        "retracted": "Retracted Publication" in types or "RetractionIn" in notices,
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
            if year := as_year(readable(part)):
                return year
    return None


def _article_id(element: Any, kind: str, better: Iterable[Any] = ()) -> str | None:
    """Return an id of the article: the publisher's valid one, else the one in the article's list of ids."""
    # Only these lists: references have ArticleIdLists of their own.
    places = [*better, *element.iterfind(f"*/ArticleIdList/ArticleId[@IdType='{kind}']")]
    return next((id_ for place in places if place.get("ValidYN", "Y") != "N" and (id_ := readable(place))), None)
