"""A passage as an entry for a reference manager: BibTeX and RIS."""

from biorerank_plugins import Passage
from biorerank_plugins.articles.metadata import DEFAULT_KEYS

PUBMED = "https://pubmed.ncbi.nlm.nih.gov/{}/"


def fields_of(passage: Passage) -> dict[str, str]:
    """Return what is known of the article, each in one line."""
    pmid = DEFAULT_KEYS.pmid_of(passage)
    known = {
        "title": DEFAULT_KEYS.title_of(passage) or passage.id,
        "author": " and ".join(DEFAULT_KEYS.authors_of(passage)),
        "year": DEFAULT_KEYS.year_of(passage),
        "journal": DEFAULT_KEYS.journal_of(passage),
        "doi": DEFAULT_KEYS.doi_of(passage),
        "pmid": pmid,
        "url": PUBMED.format(pmid) if pmid.isdigit() else "",
    }
    return {name: " ".join(str(value).split()) for name, value in known.items() if value}


def bibtex(passage: Passage) -> str:
    """Return a BibTeX entry; braces of the text are left out, since they must be paired."""
    fields = {name: value.translate({ord("{"): None, ord("}"): None}) for name, value in fields_of(passage).items()}
    key = "".join(sign for sign in fields.get("pmid", passage.id) if sign.isascii() and sign.isalnum()) or "passage"
    return "\n".join([f"@article{{{key},", *(f"  {name} = {{{value}}}," for name, value in fields.items()), "}", ""])


def ris(passage: Passage) -> str:
    """Return a RIS record."""
    tags = {"title": "TI", "year": "PY", "journal": "JO", "doi": "DO", "pmid": "AN", "url": "UR"}
    lines = [f"AU  - {author}" for author in DEFAULT_KEYS.authors_of(passage)]
    lines += [f"{tags[name]}  - {value}" for name, value in fields_of(passage).items() if name in tags]
    return "\n".join(["TY  - JOUR", *lines, "ER  - ", ""])
