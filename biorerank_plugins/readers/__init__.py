"""Files ► passages, queries and judgements; plain or compressed, one line or record at a time.

>>> import io
>>> from biorerank_plugins.readers import read_passages
>>> stream = io.BytesIO(b'{"_id": "23185200", "title": "Stress", "text": "Antioxidants lower oxidative stress."}')
>>> [passage.title for passage in read_passages(stream)]
['Stress']
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.passages import Deletion, Passage
from biorerank_plugins.readers import archive
from biorerank_plugins.readers.collection import BeirFolder, Query, find_beir, plain_or_gzip, read_qrels, read_queries
from biorerank_plugins.readers.compression import check_encoding
from biorerank_plugins.readers.detect import FORMATS, SUFFIXES, UnknownFormatError, check_readable, detect, suffix_of
from biorerank_plugins.readers.report import Malformed, Reading, ReadReport, SkippedLine
from biorerank_plugins.readers.source import OpenFile, PathOrStream, Source, source_of

__all__ = [
    "FORMATS",
    "BeirFolder",
    "Query",
    "ReadReport",
    "SkippedLine",
    "find_beir",
    "read_passages",
    "read_qrels",
    "read_queries",
    "read_updates",
]


def read_passages(
    path: PathOrStream,
    *,
    format: str = "auto",
    bad_lines: Literal["error", "skip"] = "error",
    report: ReadReport | None = None,
    passages: Literal["parts", "whole"] = "parts",
    id_key: str | None = None,
    text_key: str | None = None,
    title_key: str | None = None,
    encoding: str | None = None,
) -> Iterator[Passage]:
    r"""Read passages, one at a time; a file never has to fit into the memory.

    A folder (or a ZIP archive, which is read where it lies) gives the passages of its files, each by its own format, in
    the order of their paths; names that start with a dot and links to folders are left out, and so are other suffixes,
    which the report counts. Of a folder in BEIR's layout only the corpus is read. Whether ids are unique is for the
    index to say.

    :param path: a file, a folder, or a binary stream (``sys.stdin.buffer``); gzip, bzip2, xz and Zstandard (extra
        ``formats``) are recognised by content.
    :param format: ``auto``: by content, and by suffix where that leaves it open. Or: ``jsonl`` (one object a line, or a
        list of objects), ``bioasq`` (Task B questions: their snippets), ``tsv``, ``csv``, ``xlsx`` and ``parquet``
        (extra ``formats``), ``medline``, ``ris``, ``pubmed`` (XML), ``europepmc`` (JSON), ``jats`` and ``bioc`` (full
        texts: sections are passages), ``text`` (also Markdown; the id is the path relative to the folder), ``html``,
        ``docx`` (extra ``office``), ``pdf`` (paragraphs are passages; extra ``pdf``), ``zip``.
    :param bad_lines: ``error`` stops at the first malformed line or record, ``skip`` notes it in the report and goes
        on; so it does with a file that is empty or of a foreign type. A file that breaks off (damaged gzip, XML or JSON
        that is not well-formed) is always an error, since nobody knows how much of it is lost.
    :param report: is filled while the passages are read.
    :param passages: ``"parts"`` cuts long texts and sections at headings, paragraphs and sentences into passages of
        about 600 characters (``path#1``, …); ``"whole"`` makes one passage of each text file or section.
    :param id_key: the key or column of rows and JSON objects that holds the id; ``None`` for the usual names. Where
        only ``text_key`` is given and there is no id of a usual name, the row's number is the id (``path#12``).
    :param text_key: that of the text.
    :param title_key: that of the title.
    :param encoding: of text files that are not UTF-8, such as ``"windows-1252"``. UTF-8 and UTF-16
        are told by their bytes all the same, and XML and HTML say theirs.
    :raises MissingExtraError: if a format needs a package that is not installed.
    :raises ReaderError: names file and line. A missing path is reported at once, the rest while reading.
    :raises ValueError: if ``format``, ``bad_lines`` or ``encoding`` is none of those.
    :raises TypeError: if ``path`` is neither a path nor a binary stream.

    >>> import io
    >>> table = io.BytesIO(b"Record,Summary\n7,Statins may cause muscle pain.\n")
    >>> next(read_passages(table, format="csv", id_key="Record", text_key="Summary")).id
    '7'
    """
    if format != "auto" and format not in FORMATS:
        raise ValueError(f"format must be 'auto' or one of {', '.join(FORMATS)}; got {format!r}.")
    if bad_lines not in ("error", "skip"):
        raise ValueError(f"bad_lines must be 'error' or 'skip', got {bad_lines!r}.")
    if passages not in ("parts", "whole"):
        raise ValueError(f"passages must be 'parts' or 'whole', got {passages!r}.")
    encoding = check_encoding(encoding)
    source = source_of(path)
    named = {"id": id_key, "text": text_key, "title": title_key}
    keys = {field: key for field, key in named.items() if key is not None}
    report = ReadReport() if report is None else report
    reading = Reading(report, skips=bad_lines == "skip", whole=passages == "whole", keys=keys)
    if isinstance(source.target, Path) and source.target.is_dir():
        sources = _sources_in(source.target, format, reading)
    else:
        sources = [source]
    return _read_all(sources, format, encoding, reading)


def read_updates(
    inputs: Iterable[PathOrStream],
    *,
    format: str = "auto",
    bad_lines: Literal["error", "skip"] = "error",
    report: ReadReport | None = None,
    **options: Any,
) -> Iterator[Passage | Deletion]:
    """Read update files, for :meth:`PassageIndex.update <biorerank_plugins.PassageIndex.update>`.

    :param inputs: files or folders, the oldest first: of one article the last file has the last word.
    :param format: as :func:`read_passages` takes it.
    :param bad_lines: as there.
    :param report: as there.
    :param options: further ones of :func:`read_passages`.
    :returns: passages, and a deletion for each PMID that a PubMed file deletes and does not hold itself.

    >>> import io
    >>> file = io.BytesIO(b"<PubmedArticleSet><DeleteCitation><PMID>7</PMID></DeleteCitation></PubmedArticleSet>")
    >>> list(read_updates([file]))
    [Deletion(id='7')]
    """
    told = ReadReport() if report is None else report
    done = len(told.deleted)
    for path in inputs:
        passages = read_passages(path, format=format, bad_lines=bad_lines, report=told, **options)
        for passage in chain(passages, [None]):
            # A file's deletions are known before its first passage, and are of passages that it does not hold.
            yield from map(Deletion, told.deleted[done:])
            done = len(told.deleted)
            if passage is not None:
                yield passage


def _read_all(sources: list[Source], format_: str, encoding: str | None, reading: Reading) -> Iterator[Passage]:
    for source in sources:
        with source.open(encoding) as file:
            for passage in _read_file(file, format_, reading):
                reading.report.read += 1
                yield passage


def _read_file(file: OpenFile, format_: str, reading: Reading, *, is_member: bool = False) -> Iterator[Passage]:
    before = reading.progress()
    try:
        check_readable(file, format_)
        kind = detect(file) if format_ == "auto" else format_
        if kind == "zip" and is_member:
            raise Malformed("An archive in an archive is not read. Unpack it.")
    except Malformed as problem:
        reading.bad(problem, file.name)
        return
    except UnknownFormatError as problem:
        if not reading.skips:
            raise
        reading.bad(str(problem).removeprefix(f"{file.name}: "), file.name)
        return
    if kind == "zip":
        wanted = _suffixes("auto")
        member = partial(_read_file, format_="auto", reading=reading, is_member=True)
        yield from archive.read(file, reading, lambda name: suffix_of(name) in wanted, member)
    else:
        yield from _reader(kind)(file, reading)
    if reading.progress() == before:
        reading.bad("The file holds no passages.", file.name)


_READERS = {
    "jsonl": "jsonl:read",
    "bioasq": "bioasq:read",
    "tsv": "delimited:read_tsv",
    "csv": "delimited:read_csv",
    "xlsx": "excel:read",
    "parquet": "parquet:read",
    "medline": "tagged:read_medline",
    "ris": "tagged:read_ris",
    "text": "notes:read_text",
    "html": "notes:read_html",
    "docx": "notes:read_docx",
    "pubmed": "pubmed:read",
    "jats": "jats:read",
    "bioc": "bioc:read",
    "europepmc": "europepmc:read",
    "pdf": "pdf:read",
}


def _reader(format_: str) -> Callable[[OpenFile, Reading], Iterator[Passage]]:
    """Import a reader when it is needed: what it stands on (lxml, pypdf, pyarrow) takes its time."""
    module, _, name = _READERS[format_].partition(":")
    reader: Callable[[OpenFile, Reading], Iterator[Passage]] = getattr(import_module(f"{__name__}.{module}"), name)
    return reader


def _suffixes(format_: str) -> list[str]:
    return sorted({suffix for known in FORMATS if format_ in ("auto", known) for suffix in SUFFIXES[known]})


def _sources_in(folder: Path, format_: str, reading: Reading) -> list[Source]:
    corpus = plain_or_gzip(folder / "corpus.jsonl") if format_ in ("auto", "jsonl") else None
    if corpus is not None:
        return [source_of(corpus)]
    suffixes = _suffixes(format_)
    paths = []
    for path in _files_in(folder):
        if suffix_of(path.name) in suffixes:
            paths.append(path)
        else:
            reading.leave_out(path.name)
    if not paths:
        expected = ", ".join(suffixes)
        raise ReaderError(
            f"The folder holds no file to read. Expected {expected} (also compressed, as .gz).", str(folder)
        )
    sources = [Source(str(path), path.relative_to(folder).as_posix(), path) for path in paths]
    return sorted(sources, key=lambda source: source.id)


def _files_in(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise ReaderError(f"Cannot be listed: {error.strerror}.", str(error.filename)) from error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                yield Path(parent, name)
