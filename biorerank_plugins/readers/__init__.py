"""Files ► passages, queries and judgements; plain or gzipped, one line or record at a time.

>>> import io
>>> from biorerank_plugins.readers import read_passages
>>> stream = io.BytesIO(b'{"_id": "23185200", "title": "Stress", "text": "Antioxidants lower oxidative stress."}')
>>> [passage.title for passage in read_passages(stream)]
['Stress']
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.passages import Deletion, Passage
from biorerank_plugins.readers import bioasq, comma, jsonl, tagged, text, tsv
from biorerank_plugins.readers.beir import BeirFolder, corpus_of, find_beir
from biorerank_plugins.readers.detect import FORMATS, SUFFIXES, check_readable, detect, suffix_of
from biorerank_plugins.readers.qrels import read_qrels
from biorerank_plugins.readers.queries import Query, read_queries
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
) -> Iterator[Passage]:
    """Read passages, one at a time; a file never has to fit into the memory.

    A folder gives the passages of its files, each by its own format, in the order of their paths; names that start with
    a dot, links to folders and other suffixes are left out. Of a folder in BEIR's layout only the corpus is read.
    Whether ids are unique is for the index to say.

    :param path: a file, a folder, or a binary stream (``sys.stdin.buffer``); gzip is recognised by content.
    :param format: ``jsonl`` (BEIR or ``id``/``text``), ``bioasq`` (Task B questions: their snippets), ``tsv``, ``csv``,
        ``medline``, ``ris``, ``text`` (also Markdown; the id is the path relative to the folder), ``pubmed`` (XML),
        ``pdf`` (paragraphs are passages; needs the extra ``pdf``), or ``auto``: by content, then suffix.
    :param bad_lines: ``error`` stops at the first malformed line or record, ``skip`` notes it in the report and goes
        on; so it does with a file that is empty or of a foreign type. A file that breaks off (damaged gzip, XML or JSON
        that is not well-formed) is always an error, since nobody knows how much of it is lost.
    :param report: is filled while the passages are read.
    :param passages: ``"parts"`` cuts long text files at headings, paragraphs and sentences into passages of about 600
        characters (``path#1``, …); ``"whole"`` makes one passage of each file.
    :raises MissingExtraError: if there is a PDF file and ``pypdf`` is not installed.
    :raises ReaderError: names file and line. A missing path is reported at once, the rest while reading.
    :raises ValueError: if ``format`` or ``bad_lines`` is none of those.
    :raises TypeError: if ``path`` is neither a path nor a binary stream.
    """
    if format != "auto" and format not in FORMATS:
        raise ValueError(f"format must be 'auto' or one of {', '.join(FORMATS)}; got {format!r}.")
    if bad_lines not in ("error", "skip"):
        raise ValueError(f"bad_lines must be 'error' or 'skip', got {bad_lines!r}.")
    if passages not in ("parts", "whole"):
        raise ValueError(f"passages must be 'parts' or 'whole', got {passages!r}.")
    source = source_of(path)
    if isinstance(source.target, Path) and source.target.is_dir():
        sources = _sources_in(source.target, format)
    else:
        sources = [source]
    return _read_all(sources, format, Reading(report, skip=bad_lines == "skip", whole=passages == "whole"))


def read_updates(
    inputs: Iterable[PathOrStream],
    *,
    format: str = "auto",
    bad_lines: Literal["error", "skip"] = "error",
    report: ReadReport | None = None,
) -> Iterator[Passage | Deletion]:
    """Read update files, for :meth:`PassageIndex.update <biorerank_plugins.PassageIndex.update>`.

    :param inputs: files or folders, the oldest first: of one article the last file has the last word.
    :param format: as :func:`read_passages` takes it.
    :param bad_lines: as there.
    :param report: as there.
    :returns: passages, and a deletion for each PMID that a PubMed file deletes and does not hold itself.

    >>> import io
    >>> file = io.BytesIO(b"<PubmedArticleSet><DeleteCitation><PMID>7</PMID></DeleteCitation></PubmedArticleSet>")
    >>> list(read_updates([file]))
    [Deletion(id='7')]
    """
    told = ReadReport() if report is None else report
    done = len(told.deleted)
    for path in inputs:
        for passage in read_passages(path, format=format, bad_lines=bad_lines, report=told):
            # A file's deletions are known before its first passage, and are of passages that it does not hold.
            yield from map(Deletion, told.deleted[done:])
            done = len(told.deleted)
            yield passage
        yield from map(Deletion, told.deleted[done:])
        done = len(told.deleted)


def _read_all(sources: list[Source], format_: str, reading: Reading) -> Iterator[Passage]:
    for source in sources:
        with source.open() as file:
            for passage in _read_file(file, format_, reading):
                reading.report.read += 1
                yield passage


def _read_file(file: OpenFile, format_: str, reading: Reading) -> Iterator[Passage]:
    before = reading.progress()
    try:
        check_readable(file.head, format_)
    except Malformed as problem:
        reading.bad(problem, file.name)
        return
    yield from _READERS[detect(file) if format_ == "auto" else format_](file, reading)
    if reading.progress() == before:
        reading.bad("The file holds no passages.", file.name)


def _read_pubmed(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    from biorerank_plugins.readers import pubmed  # lxml is loaded only when XML is read

    return pubmed.read(file, reading)


def _read_pdf(file: OpenFile, reading: Reading) -> Iterator[Passage]:
    from biorerank_plugins.readers import pdf

    return pdf.read(file, reading)


_READERS: dict[str, Callable[[OpenFile, Reading], Iterator[Passage]]] = {
    "jsonl": jsonl.read,
    "bioasq": bioasq.read,
    "tsv": tsv.read,
    "csv": comma.read,
    "medline": tagged.read_medline,
    "ris": tagged.read_ris,
    "text": text.read,
    "pubmed": _read_pubmed,
    "pdf": _read_pdf,
}


def _sources_in(folder: Path, format_: str) -> list[Source]:
    corpus = corpus_of(folder) if format_ in ("auto", "jsonl") else None
    if corpus is not None:
        return [source_of(corpus)]
    suffixes = sorted({s for known in FORMATS if format_ in ("auto", known) for s in SUFFIXES[known]})
    paths = [path for path in _files_in(folder) if suffix_of(path.name) in suffixes]
    if not paths:
        expected = ", ".join(suffixes)
        raise ReaderError(f"The folder holds no file to read. Expected {expected} (or with .gz).", str(folder))
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
