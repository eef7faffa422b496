"""What a passage's metadata say of its article: PMID, DOI, year, kind of study, retraction, and how to cite it.

Collections spell the same thing in many ways (``pmid``, ``PubMed ID``, ``externalIds.PubMed``; ``10.1000/X``,
``https://doi.org/10.1000/x``). Keys are looked up without regard to case, ``_``, ``-`` and blanks, and values are
brought into one form; a value that makes no sense counts as none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import chain
from typing import Any, TypeAlias

from biorerank_plugins.articles.identifiers import as_doi, as_pmid, as_text, as_year, first_text, pmid_in_address
from biorerank_plugins.passages import Passage

Names: TypeAlias = str | tuple[str, ...]
"""Metadata keys to look under, the best first; a dot goes one level down (``"ids.pmid"``)."""

_RETRACTED_TYPES = {"retractedpublication", "retractedarticle", "retracted"}
_RETRACTED_TITLE = re.compile(r"\W*retracted(?:\s+(?:article|publication|paper))?\s*[:\]\-–—]", re.IGNORECASE)
_YES = {"true", "yes", "y", "1", *_RETRACTED_TYPES}
_AUTHORS_SHOWN = 3

_NOT_IN_NAMES = re.compile(r"[\s_\-]+")
_NOT_ALNUM = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class MetadataKeys:
    """Where a passage's metadata say what article it is from.

    Each field is a key, or several of which the first with a usable value counts; ``()`` never looks.

    :param pmid: PubMed's number: 123, ``"123"``, ``"PMID: 123"`` or an address.
    :param doi: the DOI, bare or as an address.
    :param address: the article's address: a PMID or DOI in it counts where the keys above have none.
    :param title: the title, where ``Passage.title`` is empty.
    :param authors: a string, or a list of names or of objects with names.
    :param journal: the journal.
    :param year: the year, or a date that begins or ends with it.
    :param publication_types: a list, or a string with ``;`` or ``|`` between the types.
    :param retracted: whether the article is retracted. The type "Retracted Publication" and a title that begins with
        "Retracted:" say so too.
    :raises TypeError: if a field is neither a string nor strings.
    :raises ValueError: if a key is empty.

    Example::

        keys = MetadataKeys(year="issued", retracted=("is_retracted", "flags.retracted"))
        reranker = BioReranker(metadata_keys=keys)
    """

    pmid: Names = ("pmid", "pubmed_id", "pubmed", "external_ids.pubmed", "ids.pmid")
    doi: Names = ("doi", "external_ids.doi", "ids.doi")
    address: Names = ("document", "url", "link", "source", "uri")
    title: Names = ("title", "article_title")
    authors: Names = ("authors", "author")
    journal: Names = ("journal", "journal_title", "journal_name", "venue")
    year: Names = (
        "year", "publication_year", "pub_year", "publication_date", "pub_date", "date_published", "published", "date",
    )  # fmt: skip
    publication_types: Names = ("publication_types", "publication_type", "pub_types", "pub_type")
    retracted: Names = ("retracted", "is_retracted")

    def __post_init__(self) -> None:
        for one in fields(self):
            given = getattr(self, one.name)
            names = (given,) if isinstance(given, str) else given
            if not isinstance(names, (tuple, list)) or not all(isinstance(name, str) for name in names):
                raise TypeError(f"MetadataKeys.{one.name} must be a key or several, got {given!r:.80}.")
            if not all(name.strip() for name in names):
                raise ValueError(f"MetadataKeys.{one.name} has an empty key: {given!r:.80}.")
            object.__setattr__(self, one.name, tuple(names))

    def pmid_of(self, passage: Passage) -> str:
        """Return the PMID as digits, ``""`` if there is none.

        >>> MetadataKeys().pmid_of(Passage("1", "…", metadata={"document": "http://www.ncbi.nlm.nih.gov/pubmed/77"}))
        '77'
        """
        found = first_text(as_pmid, self._values(passage, self.pmid))
        return found or first_text(pmid_in_address, self._values(passage, self.address))

    def doi_of(self, passage: Passage) -> str:
        """Return the DOI in lower case and without an address, ``""`` if there is none."""
        return first_text(as_doi, chain(self._values(passage, self.doi), self._values(passage, self.address)))

    def title_of(self, passage: Passage) -> str:
        """Return the title as it stands, ``""`` if there is none."""
        own = passage.title or ""
        return own if own.strip() else first_text(as_text, self._values(passage, self.title))

    def authors_of(self, passage: Passage) -> tuple[str, ...]:
        """Return the authors' names, in order."""
        for value in self._values(passage, self.authors):
            items = value.split(";") if isinstance(value, str) else value if isinstance(value, tuple) else [value]
            if names := tuple(name for item in items if (name := _person(item))):
                return names
        return ()

    def journal_of(self, passage: Passage) -> str:
        """Return the journal, ``""`` if there is none."""
        return first_text(_named, self._values(passage, self.journal))

    def year_of(self, passage: Passage) -> int | None:
        """Return the year of publication.

        >>> MetadataKeys().year_of(Passage("1", "…", metadata={"pub_date": "2019-05-03"}))
        2019
        """
        return next((year for value in self._values(passage, self.year) if (year := as_year(value))), None)

    def publication_types_of(self, passage: Passage) -> tuple[str, ...]:
        """Return the kinds of publication, as they are spelled there."""
        for value in self._values(passage, self.publication_types):
            items = re.split(r"[;|]", value) if isinstance(value, str) else value
            if isinstance(items, (list, tuple)) and (names := tuple(name for item in items if (name := _named(item)))):
                return names
        return ()

    def retracted_in(self, passage: Passage) -> bool:
        """Return whether the metadata say, in one way or another, that the article is retracted."""
        return (
            any(_is_yes(value) for value in self._values(passage, self.retracted))
            or any(folded(name) in _RETRACTED_TYPES for name in self.publication_types_of(passage))
            or _RETRACTED_TITLE.match(self.title_of(passage)) is not None
        )

    def _values(self, passage: Passage, names: Names) -> Iterator[Any]:
        """Give what stands under the keys, in their order."""
        known = _by_key(passage.metadata)
        for name in names:
            if (value := _plain(_look_up(known, _key(name)))) is not None:
                yield value


DEFAULT_KEYS = MetadataKeys()
"""The common spellings."""


def check_metadata_keys(keys: MetadataKeys | None) -> MetadataKeys:
    """Return usable keys; ``None`` gives the common spellings."""
    if keys is None:
        return DEFAULT_KEYS
    if not isinstance(keys, MetadataKeys):
        raise TypeError(f"metadata_keys must be MetadataKeys or None, got {type(keys).__name__}: {keys!r:.80}.")
    return keys


def cite(passage: Passage, keys: MetadataKeys = DEFAULT_KEYS) -> str:
    """Return a passage's reference on one line: authors, title, journal and year as far as they are known, PMID, DOI.

    Without PMID and DOI it ends with the address, else with the passage's id. A retracted article is marked.

    >>> about = {"authors": ["Lee K", "Wu L"], "pmid": 123, "year": 2019, "journal": "BMJ", "doi": "10.1000/X"}
    >>> cite(Passage("7", "…", title="TP53 in cancer", metadata=about))
    'Lee K, Wu L. TP53 in cancer. BMJ. 2019. PMID: 123. doi: 10.1000/x.'
    """
    authors = [_short_name(name) for name in keys.authors_of(passage)]
    names = ", ".join([*authors[:_AUTHORS_SHOWN], *(["et al"] if len(authors) > _AUTHORS_SHOWN else [])])
    retracted = "[retracted]" if keys.retracted_in(passage) else ""
    title = " ".join(f"{keys.title_of(passage).strip().rstrip('.')} {retracted}".split())
    pmid, doi = keys.pmid_of(passage), keys.doi_of(passage)
    where = [f"PMID: {pmid}" if pmid else "", f"doi: {doi}" if doi else ""]
    if not pmid and not doi:
        where = [first_text(as_text, keys._values(passage, keys.address)) or passage.id]
    parts = [names, title, keys.journal_of(passage), str(keys.year_of(passage) or ""), *where]
    cleaned = (" ".join(part.split()).rstrip(".") for part in parts)
    return " ".join(part if part.endswith(("?", "!")) or "://" in part else f"{part}." for part in cleaned if part)


def _short_name(name: str) -> str:
    """Return ``"Silva J"`` for ``"Silva, João"``: with commas in names nobody sees where one ends."""
    last, _, first = name.partition(", ")
    initials = "".join(part[0] for part in re.split(r"[\s.-]+", first) if part[:1].isupper())
    return f"{last} {initials}" if initials and "," not in first else name


@lru_cache(maxsize=4096)
def folded(name: str) -> str:
    """Return letters and digits in lower case: ``Meta-Analysis`` and ``meta analysis`` are the same name."""
    return _NOT_ALNUM.sub("", name.casefold())


@lru_cache(maxsize=4096)
def _key(name: str) -> str:
    return _NOT_IN_NAMES.sub("", name.casefold())


def _by_key(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {_key(name): value for name, value in metadata.items()}


def _look_up(known: Mapping[str, Any], key: str) -> Any:
    """Return the value under a key, one level down for each dot; ``None`` if there is none."""
    if key in known:
        return known[key]
    head, dot, rest = key.partition(".")
    inner = known.get(head) if dot else None
    return _look_up(_by_key(inner), rest) if isinstance(inner, Mapping) else None


def _plain(value: Any) -> Any:
    """Return scalars and arrays of NumPy as Python's, and what stands for "missing" as ``None``."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return tuple(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_yes(value: object) -> bool:
    if isinstance(value, (Mapping, tuple, bool, int, float)):  # containers hold the notices of retraction
        return bool(value)
    text = as_text(value)
    return folded(text) in _YES or (text[:1].isdigit() and as_year(text) is not None)  # or since when


def _named(value: object) -> str:
    """Return a name: a string, or what an object calls itself."""
    if not isinstance(value, Mapping):
        return as_text(value)
    known = _by_key(value)
    return first_text(as_text, (known.get(key) for key in ("name", "title", "displayname")))


def _person(value: object) -> str:
    name = _named(value)
    if name or not isinstance(value, Mapping):
        return name
    known = _by_key(value)
    last = first_text(as_text, (known.get(key) for key in ("lastname", "family", "last")))
    first = first_text(as_text, (known.get(key) for key in ("initials", "firstname", "forename", "given", "first")))
    return f"{last} {first}".strip()
