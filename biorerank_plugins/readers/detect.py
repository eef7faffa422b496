"""Which format a file has: by its suffix, then by how it begins."""

from __future__ import annotations

import codecs
import json
import re
from pathlib import PurePath

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.readers.records import DECODER
from biorerank_plugins.readers.report import Malformed
from biorerank_plugins.readers.source import HEAD, OpenFile

__all__ = [
    "FORMATS",
    "SUFFIXES",
    "UnknownFormatError",
    "check_readable",
    "detect",
    "is_bioasq_document",
    "is_pdf",
    "suffix_of",
]

SUFFIXES = {
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "bioasq": (".json", ".jsonl", ".ndjson"),
    "tsv": (".tsv",),
    "csv": (".csv",),
    "medline": (".nbib", ".medline"),
    "ris": (".ris",),
    "text": (".txt", ".md", ".markdown"),
    "pubmed": (".xml",),
    "pdf": (".pdf",),
}
"""Names of the formats and the suffixes of their files, each also with ``.gz``."""

FORMATS = tuple(SUFFIXES)

# Files that people take for text collections, and what to say about them.
_FOREIGN = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"%PDF-": "a PDF file",
    b"PK\x03\x04": "a ZIP archive or Office file",
    b"\x1f\x8b": "gzipped twice",
    b"\xfd7zXZ": "compressed with xz",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"PAR1": "a Parquet file",
    b"SQLite format 3": "an SQLite database",
    b"\xd0\xcf\x11\xe0": "an old Office file",
}
_BZIP2 = re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# An unescaped key with a list: inside a JSON string its quotes would be escaped.
_BIOASQ_KEY = re.compile(rb'(?<!\\)"(questions|snippets)"\s*:\s*\[')
_QUESTIONS_KEY = re.compile(rb'(?<!\\)"questions"\s*:\s*\[')


_EXPORTS = {
    "medline": re.compile(rb"PMID *- *\d"),
    "ris": re.compile(rb"TY  ?- ?[A-Z]"),
    "pubmed": re.compile(rb"(<\?xml[^>]*>\s*)?(<!DOCTYPE[^>]*>\s*)?<Pubmed(Book)?Article(Set)?[\s>]"),
}
_REFERENCES = "Export the references as RIS, or as PubMed (.nbib or XML)."
_NOT_READ = {
    ("a Web of Science export", _REFERENCES): re.compile(rb"(FN|VR) (Clarivate|Thomson|ISI|1\.0)|PT [JBSP]\r?\n"),
    ("BibTeX", _REFERENCES): re.compile(rb"(%.*\n|\s)*@(article|book|inproceedings|misc|comment|string)\s*[{(]", re.I),
    ("an EndNote export", _REFERENCES): re.compile(rb"%0 [A-Z]|<\?xml[^>]*>\s*<xml>\s*<records>"),
    ("PubTator", "Export BioC's articles as PubMed XML, or as RIS."): re.compile(rb"\d+\|[ta]\|"),
    ("a list of TREC topics", "These are questions: give them with --queries."): re.compile(rb"<top>|<topics[\s>]"),
}


class UnknownFormatError(ReaderError):
    """Neither name nor content tell the format of an input."""


def suffix_of(name: str) -> str:
    """Return the suffix in lower case, without ``.gz``.

    >>> suffix_of("corpus.JSONL.gz")
    '.jsonl'
    """
    path = PurePath(name)
    if path.suffix.lower() == ".gz":
        path = path.with_suffix("")
    return path.suffix.lower()


def check_readable(head: bytes, format_: str) -> None:
    """Refuse what holds nothing to read.

    :raises Malformed: if the file is empty, UTF-16 where lines are read, or of a foreign type.
    """
    if not head.removeprefix(codecs.BOM_UTF8).strip():
        if len(head) < HEAD:  # else something may come behind it
            raise Malformed("The file is empty.")
        return
    foreign = next((what for magic, what in _FOREIGN.items() if head.startswith(magic)), None)
    if format_ == "pdf" or (format_ == "auto" and is_pdf(head)):
        if foreign in (None, "a PDF file"):
            return
        raise Malformed(f"The file is {foreign}, and no PDF.")
    if foreign is None and _BZIP2.match(head):
        foreign = "compressed with bzip2"
    if foreign is not None:
        raise Malformed(f"The file is {foreign}. Expected text: {', '.join(FORMATS)} (plain or gzipped).")
    if format_ != "pubmed" and head.startswith(_UTF16) and not _is_utf16_xml(head):
        raise Malformed("The file is UTF-16. Save it as UTF-8.")


def detect(file: OpenFile) -> str:
    """Return the format of an open file.

    :raises UnknownFormatError: if neither the suffix nor the beginning tells.
    """
    suffix = suffix_of(file.name)
    if suffix == ".pdf" or is_pdf(file.head):
        return "pdf"
    begin = file.head.removeprefix(codecs.BOM_UTF8).lstrip()
    if suffix not in SUFFIXES["jsonl"] and (told := _by_content(begin, file.name)):
        return told  # exports are often saved as .txt
    for format_ in ("tsv", "csv", "text", "pubmed"):
        if suffix in SUFFIXES[format_]:
            return format_
    if suffix in SUFFIXES["jsonl"] or begin[:1] in (b"{", b"["):
        return "bioasq" if _is_bioasq(begin) else "jsonl"
    if begin[:1] == b"<" or _is_utf16_xml(file.head):
        return "pubmed"
    if b"\t" in begin.partition(b"\n")[0]:
        return "tsv"
    problem = f"Cannot tell the format from the name or content. Say which: {', '.join(FORMATS)}."
    raise UnknownFormatError(problem, file.name)


def _by_content(begin: bytes, name: str) -> str | None:
    """Return the format of an export that tells what it is.

    :raises ReaderError: if it is one that is not read; the message says which export to choose.
    """
    for format_, pattern in _EXPORTS.items():
        if pattern.match(begin):
            return format_
    for (what, instead), pattern in _NOT_READ.items():
        if pattern.match(begin):
            raise ReaderError(f"The file is {what}, which is not read. {instead}", name)
    return None


def is_pdf(head: bytes) -> bool:
    """Tell a PDF file."""
    return head.startswith(b"%PDF-")


def is_bioasq_document(head: bytes) -> bool:
    """Tell a whole JSON document of questions from JSON Lines with one question a line."""
    begin = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if begin.startswith(b"["):
        return True
    first = _first_object(begin)
    return "questions" in first if first is not None else _QUESTIONS_KEY.search(begin) is not None


def _is_utf16_xml(head: bytes) -> bool:
    return head.startswith(_UTF16) and head[:256].decode("utf-16", "ignore").lstrip().startswith("<")


def _is_bioasq(begin: bytes) -> bool:
    first = _first_object(begin)
    if first is not None:
        return "text" not in first and ("questions" in first or "snippets" in first)
    return _BIOASQ_KEY.search(begin) is not None


def _first_object(begin: bytes) -> dict[str, object] | None:
    """Return the first line's object, ``None`` if that line is longer than the head or no JSON object."""
    try:
        value = DECODER.decode(begin.partition(b"\n")[0].decode("utf-8").strip())
    except (ValueError, RecursionError, Malformed, json.JSONDecodeError):
        return None
    return value if isinstance(value, dict) else None
