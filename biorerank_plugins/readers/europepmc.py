"""Europe PMC's answers as JSON (``resultList.result``; ``resultType=core`` has the abstracts).

One passage an article: the abstract, or the title where there is none. https://europepmc.org/RestfulWebService
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from biorerank_plugins.articles.identifiers import as_pmid, as_text, as_year
from biorerank_plugins.passages import Passage
from biorerank_plugins.readers.json_stream import array_items
from biorerank_plugins.readers.jsonl import parse_items
from biorerank_plugins.readers.markup import html_lines
from biorerank_plugins.readers.records import article_passage, listed
from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.readers.source import OpenFile

_RESULTS = re.compile(rb'(?<!\\)"resultList"\s*:\s*\{\s*"result"\s*:\s*\[')


def is_europepmc(head: bytes) -> bool:
    """Tell Europe PMC's answers by their beginning."""
    return _RESULTS.search(head) is not None


def read(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    """Give the passage of each article."""
    return parse_items(array_items(file, "resultList", "result"), file, reading, lambda _, record: _passage(record))


def _passage(record: dict[str, Any]) -> Passage:
    pmid, pmcid, source = (as_text(record.get(key)) for key in ("pmid", "pmcid", "source"))
    other = as_text(record.get("id"))
    if not other and not pmid:
        raise Malformed(f"No 'id' and no 'pmid'; the keys are: {listed(record)}.")
    title = " ".join(html_lines(as_text(record.get("title"))))
    text = "\n".join(html_lines(as_text(record.get("abstractText"))))
    types = _texts(record, "pubTypeList", "pubType")
    comments = {kind.lower() for kind in _texts(record, "commentCorrectionList", "commentCorrection", "type")}
    metadata = {
        "pmid": as_pmid(pmid),
        "pmcid": pmcid,
        "doi": as_text(record.get("doi")),
        "source": source,
        "authors": _authors(record),
        "journal": as_text(_get(record, "journalInfo", "journal", "title") or record.get("journalTitle")),
        "year": as_year(record.get("pubYear")),
        "publication_types": types,
        "mesh": _texts(record, "meshHeadingList", "meshHeading", "descriptorName"),
        "keywords": _texts(record, "keywordList", "keyword"),
        "language": as_text(record.get("language")),
        "retracted": "retracted publication" in map(str.lower, types) or "retraction in" in comments,
        "expression_of_concern": "expression of concern in" in comments,
    }
    return article_passage(as_pmid(pmid) or pmcid or other, text, title, metadata)


def _get(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _texts(record: dict[str, Any], *keys: str) -> list[str]:
    """Return the texts of a list, which two keys lead to, or of a field of each of its objects."""
    found = _get(record, *keys[:2])
    texts = [as_text(_get(one, *keys[2:])) for one in found] if isinstance(found, list) else []
    return [text for text in texts if text]


def _authors(record: dict[str, Any]) -> list[str]:
    names = _texts(record, "authorList", "author", "fullName")
    return names or [name for name in as_text(record.get("authorString")).rstrip(".").split(", ") if name]
