"""Which format a file has: by how it begins, and by its suffix only where that leaves it open."""

from __future__ import annotations

import codecs
import re
from pathlib import PurePath

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.readers.archive import kind_of_zip
from biorerank_plugins.readers.bioc import is_bioc
from biorerank_plugins.readers.compression import compression_of
from biorerank_plugins.readers.europepmc import is_europepmc
from biorerank_plugins.readers.fields import TEXT, find_field
from biorerank_plugins.readers.jsonl import first_object, is_bioasq
from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.readers.source import HEAD, OpenFile

_PACKED = (".gz", ".bz2", ".xz", ".zst")
SUFFIXES = {
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "bioasq": (".json", ".jsonl", ".ndjson"),
    "tsv": (".tsv", ".tab"),
    "csv": (".csv",),
    "xlsx": (".xlsx", ".xlsm"),
    "parquet": (".parquet",),
    "medline": (".nbib", ".medline"),
    "ris": (".ris",),
    "text": (".txt", ".md", ".markdown"),
    "html": (".html", ".htm", ".xhtml"),
    "docx": (".docx",),
    "pubmed": (".xml",),
    "jats": (".nxml", ".xml"),
    "bioc": (".xml", ".json", ".jsonl"),
    "europepmc": (".json",),
    "pdf": (".pdf",),
    "zip": (".zip",),
}
"""Names of the formats and the suffixes of their files, each also compressed (``.gz``, ``.bz2``, ``.xz``, ``.zst``)."""

FORMATS = tuple(SUFFIXES)

_BINARY = {b"%PDF-": "pdf", b"PAR1\x15": "parquet", b"PK\x03\x04": "zip", b"PK\x05\x06": "zip"}
# Files that people take for text collections, and what to say about them.
_FOREIGN = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"7z\xbc\xaf": "a 7-Zip archive. Unpack it, or pack it as ZIP",
    b"Rar!\x1a\x07": "a RAR archive. Unpack it, or pack it as ZIP",
    b"SQLite format 3": "an SQLite database. Export the table as CSV",
    b"\xd0\xcf\x11\xe0": "an old Office file. Save it as .docx, .xlsx or PDF",
    b"{\\rtf": "an RTF file. Save it as .docx or PDF",
}
_TAR = slice(257, 262)
_EXPORTS = {"medline": re.compile(r"PMID *- *\d"), "ris": re.compile(r"TY  ?- ?[A-Z]")}
_XML = re.compile(
    r"(?:<\?[^>]*\?>\s*|<!--(?:(?!-->).)*-->\s*|<!DOCTYPE[^>\[]*(?:\[[^\]]*\]\s*)?>\s*)*<(?:\w+:)?([\w-]+)[\s/>]",
    re.DOTALL | re.IGNORECASE,
)
_ROOTS = {
    "PubmedArticleSet": "pubmed",
    "PubmedBookArticleSet": "pubmed",
    "PubmedArticle": "pubmed",
    "PubmedBookArticle": "pubmed",
    "DeleteCitation": "pubmed",
    "article": "jats",
    "pmc-articleset": "jats",
    "OAI-PMH": "jats",
    "collection": "bioc",
    "html": "html",
}
_REFERENCES = "Export the references as RIS, or as PubMed (.nbib or XML)."
_TOPICS = ("a list of TREC topics", "These are questions: give them with --queries.")
_NOT_READ = {
    ("a Web of Science export", _REFERENCES): re.compile(r"(FN|VR) (Clarivate|Thomson|ISI|1\.0)|PT [JBSP]\r?\n"),
    ("BibTeX", _REFERENCES): re.compile(r"(%.*\n|\s)*@(article|book|inproceedings|misc|comment|string)\s*[{(]", re.I),
    ("an EndNote export", _REFERENCES): re.compile(r"%0 [A-Z]"),
    ("PubTator's text", "Export BioC (JSON or XML), which is read."): re.compile(r"\d+\|[ta]\|"),
    _TOPICS: re.compile(r"<top>", re.I),
}
_ROOTS_NOT_READ = {
    "xml": ("an EndNote export", _REFERENCES),
    "records": ("an EndNote export", _REFERENCES),
    "responseWrapper": ("Europe PMC's XML", "Ask for format=json&resultType=core."),
    "eSearchResult": ("a list of PMIDs", "Fetch the articles: efetch with db=pubmed and retmode=xml."),
    "eSummaryResult": ("summaries of PubMed", "They have no abstracts; fetch the articles: efetch with retmode=xml."),
    "topics": _TOPICS,
}


class UnknownFormatError(ReaderError):
    """Neither name nor content tell the format of an input."""


def suffix_of(name: str) -> str:
    """Return the suffix in lower case, without that of a compression: ``.jsonl`` of ``corpus.JSONL.gz``."""
    path = PurePath(name)
    if path.suffix.lower() in _PACKED:
        path = path.with_suffix("")
    return path.suffix.lower()


def need_readable(file: OpenFile, format_: str) -> None:
    """Raise :class:`ReaderError` of what :func:`check_readable` refuses: the file is all there is to read."""
    with Reading().noting(file.name):
        check_readable(file, format_)


def check_readable(file: OpenFile, format_: str) -> None:
    """Refuse what is empty, or of a foreign type."""
    head = file.head
    if not file.begin:
        if len(head) < HEAD:  # else something may come behind it
            raise Malformed("The file is empty.")
        return
    if (again := compression_of(head)) is not None:
        raise Malformed(f"The file is compressed twice ({again}). Unpack it once.")
    foreign = next((what for magic, what in _FOREIGN.items() if head.startswith(magic)), None)
    if foreign is None and head[_TAR] == b"ustar":
        foreign = "a tar archive. Unpack it, or pack it as ZIP"
    if foreign is not None:
        raise Malformed(f"The file is {foreign}.")
    found = binary_kind(head)
    accepted = {"auto": found, "xlsx": "zip", "docx": "zip", "questions": "parquet" if found == "parquet" else None}
    wanted = accepted.get(format_, format_)
    if found is not None and found != wanted:
        names = {"pdf": "a PDF file", "zip": "a ZIP archive or Office file", "parquet": "a Parquet file"}
        raise Malformed(f"The file is {names[found]}, and not {format_}.")
    if wanted in _BINARY.values() and found is None:
        raise Malformed(f"The file is no {format_}, or damaged.")


def binary_kind(head: bytes) -> str | None:
    """Return ``"pdf"``, ``"parquet"`` or ``"zip"`` (Office files too), ``None`` for a text."""
    return next((kind for magic, kind in _BINARY.items() if head.startswith(magic)), None)


def detect(file: OpenFile) -> str:
    """Return the format of an open file; where it is one that is not read, the error says what to choose instead."""
    if (binary := binary_kind(file.head)) is not None:
        return kind_of_zip(file.stream) if binary == "zip" else binary
    suffix = suffix_of(file.name)
    if told := _by_content(file, suffix):
        return told
    for format_ in ("tsv", "csv", "text", "html", "jsonl"):
        if suffix in SUFFIXES[format_]:
            return format_
    for format_ in ("xlsx", "parquet", "docx", "pdf", "zip"):
        if suffix in SUFFIXES[format_]:
            raise Malformed(f"The file is no {suffix} file, or damaged.")
    if file.begin.startswith((b"{", b"[")):
        return "jsonl"
    if file.begin.startswith(b"<") or suffix in SUFFIXES["pubmed"]:
        return "pubmed"
    if b"\t" in file.begin.partition(b"\n")[0]:
        return "tsv"
    problem = f"Cannot tell the format from the name or content. Say which: {', '.join(FORMATS)}."
    raise UnknownFormatError(problem, file.name)


def _by_content(file: OpenFile, suffix: str) -> str | None:
    """Return the format that the beginning tells, ``None`` if it leaves it open."""
    if file.begin.startswith((b"{", b"[")):
        return _json(file.begin, suffix)
    is_utf16 = file.head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = file.head.decode("utf-16", "ignore").lstrip() if is_utf16 else file.begin.decode("latin-1")
    root = _XML.match(text)
    if root is not None:
        if (refused := _ROOTS_NOT_READ.get(root[1])) is not None:
            raise Malformed(f"The file is {refused[0]}, which is not read. {refused[1]}")
        if (known := _ROOTS.get(root[1]) or _ROOTS.get(root[1].lower())) is not None:
            return known
    for format_, pattern in _EXPORTS.items():
        if pattern.match(text):
            return format_
    for (what, instead), pattern in _NOT_READ.items():
        if pattern.match(text):
            raise Malformed(f"The file is {what}, which is not read. {instead}")
    return None


def _json(begin: bytes, suffix: str) -> str | None:
    """Return the kind of JSON; a text may begin with a bracket, so that it must be one of passages there."""
    if is_europepmc(begin):
        return "europepmc"
    if is_bioc(begin):
        return "bioc"
    if is_bioasq(begin):
        return "bioasq"
    first = first_object(begin)
    is_row = first is not None and find_field(TEXT, first, {}) is not None
    return "jsonl" if is_row or suffix in SUFFIXES["jsonl"] else None
