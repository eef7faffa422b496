"""PMIDs, DOIs and years out of whatever a collection writes: numbers, addresses, dates, floats of a data frame."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import unquote

_PMID = re.compile(r"(?:pmid|pubmed)?\s*:?\s*0*([1-9][0-9]{0,8})(?:\.0)?", re.IGNORECASE)
_PUBMED_URL = re.compile(
    r"(?:\bpubmed(?:\.ncbi\.nlm\.nih\.gov)?/(?:\?term=)?|europepmc\.org/(?:article|abstract)/med/)"
    r"0*([1-9][0-9]{0,8})(?![0-9])",
    re.IGNORECASE,
)
_DOI = re.compile(r"10\.[0-9]{4,9}/\S+")
_BRACKETS = {")": "(", "]": "[", "}": "{", ">": "<"}
_YEAR = re.compile(r"(?<![0-9])(?:1[5-9]|20)[0-9]{2}(?![0-9])")
_COMPACT_DATE = re.compile(r"((?:1[5-9]|20)[0-9]{2})(?:0[1-9]|1[0-2])(?:[0-2][0-9]|3[01])")


def as_pmid(value: object) -> str:
    """Return a PMID as digits without leading zeros, ``""`` if the value holds none.

    >>> as_pmid("PMID: 0123"), as_pmid(123.0), as_pmid("https://pubmed.ncbi.nlm.nih.gov/123/"), as_pmid("PMC123")
    ('123', '123', '123', '')
    """
    if isinstance(value, tuple):
        return first_text(as_pmid, value)
    found = _PMID.fullmatch(as_text(value))
    return found[1] if found else pmid_in_address(value)


def pmid_in_address(value: object) -> str:
    """Return the PMID in an address of PubMed or Europe PMC, ``""`` if the value is no such address."""
    found = _PUBMED_URL.search(as_text(value))
    return found[1] if found else ""


def as_doi(value: object) -> str:
    """Return a DOI in lower case, without address or prefix, ``""`` if the value holds none.

    >>> as_doi("https://doi.org/10.1016%2FS0140-6736(03)12345-6."), as_doi("n/a")
    ('10.1016/s0140-6736(03)12345-6', '')
    """
    if isinstance(value, tuple):
        return first_text(as_doi, value)
    text = as_text(value)
    if text.lower().startswith(("http:", "https:")):  # what follows ? and # is no part of it there
        text = unquote(re.split(r"[?#]", text, maxsplit=1)[0])
    found = _DOI.search(text)
    return _without_closing_marks(found[0]).lower() if found else ""


def as_year(value: object) -> int | None:
    """Return the year of a date in any common form, ``None`` if the value holds none from 1500 to 2099.

    >>> as_year("2019 May 3"), as_year("20190503"), as_year(2019.0), as_year((2019, 5, 3)), as_year("in press")
    (2019, 2019, 2019, 2019, None)
    """
    if isinstance(value, tuple):
        return as_year(value[0]) if value else None
    text = as_text(value)
    found = _COMPACT_DATE.fullmatch(text) or _YEAR.search(text)
    return int(found[0][:4]) if found else None


def as_text(value: object) -> str:
    """Return a string, number or date as text without blanks around it; a truth value or a container is none."""
    if value is None or isinstance(value, (bool, Mapping, tuple)):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # pandas turns a column of numbers with gaps into floats
    return str(value).strip()


def first_text(read: Callable[[object], str], values: Iterable[object]) -> str:
    """Return what is read of the first value that gives something, ``""`` if none does."""
    return next((found for value in values if (found := read(value))), "")


def _without_closing_marks(doi: str) -> str:
    """Take off what closes the sentence or bracket that a DOI stands in; brackets may belong to it."""
    while doi:
        last = doi[-1]
        unopened = last in _BRACKETS and doi.count(last) > doi.count(_BRACKETS[last])
        if not unopened and last not in ".,;:'\"":
            break
        doi = doi[:-1]
    return doi
