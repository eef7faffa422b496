"""A test collection: questions, judgements, and where a folder in BEIR's layout has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.readers.compression import check_encoding
from biorerank_plugins.readers.detect import SUFFIXES, UnknownFormatError, binary_kind, need_readable, suffix_of
from biorerank_plugins.readers.lines import chomp, parse_lines
from biorerank_plugins.readers.question_files import question_records
from biorerank_plugins.readers.records import as_text
from biorerank_plugins.readers.report import Malformed, Reading, ReadReport
from biorerank_plugins.readers.source import OpenFile, PathOrStream, source_of
from biorerank_plugins.readers.topics import is_topics

_GRADE = re.compile(r"[+-]?[0-9]{1,9}")
_HEADER = {"query-id", "query_id", "queryid", "qid", "query", "topic"}


@dataclass(frozen=True, slots=True)
class Query:
    """A question.

    :param id: its name in the judgements.
    :param text: the question.
    """

    id: str
    text: str


def read_queries(
    path: PathOrStream,
    *,
    bad_lines: Literal["error", "skip"] = "error",
    report: ReadReport | None = None,
    encoding: str | None = None,
) -> list[Query]:
    """Read all questions of a file.

    JSON Lines or a list of objects (``question``, ``query``, ``body`` or ``text``, and ``id``, ``_id``, ``qid`` or
    ``query_id``), Parquet with such columns, BioASQ Task B, PubMedQA, MIRAGE, SQuAD's layout, TREC topics, CSV and TSV
    with a header, TSV without (id, text), or ``.txt`` (one question a line); compressed or not. The id of a question
    that has none is the number of its line.

    :param path: a file or a binary stream.
    :param bad_lines: ``error`` stops at the first malformed line or record, ``skip`` notes it in the report.
    :param report: is filled while the questions are read.
    :param encoding: of a text file that is not UTF-8.
    :returns: the questions in the order of the file.
    :raises ReaderError: if the file or one of its lines cannot be read, or an id stands there with two texts.

    >>> import io
    >>> read_queries(io.BytesIO(b'{"_id": 1, "text": "What causes gout?"}'))
    [Query(id='1', text='What causes gout?')]
    """
    source = source_of(path)
    reading = Reading(ReadReport() if report is None else report, skips=bad_lines == "skip")
    with source.open(check_encoding(encoding)) as file:
        queries = list(_unique(file, reading))
    if not queries:
        raise ReaderError("The file holds no queries.", source.name)
    reading.report.read += len(queries)
    return queries


def _unique(file: OpenFile, reading: Reading) -> Iterator[Query]:
    seen: dict[str, tuple[int, str]] = {}
    for number, query in _numbered(file, reading):
        first = seen.setdefault(query.id, (number, query.text))
        if first[1] != query.text:
            reading.bad(
                f"The query id {query.id!r} stands on line {first[0]} already, with another text.", file.name, number
            )
        elif first[0] == number:
            yield query


def _numbered(file: OpenFile, reading: Reading) -> Iterator[tuple[int, Query]]:
    need_readable(file, "questions")
    suffix = suffix_of(file.name)
    if suffix in SUFFIXES["text"] and not is_topics(file.begin):
        yield from parse_lines(file, reading, lambda number, line: (number, Query(str(number), as_text(line.strip()))))
        return
    is_told = (
        binary_kind(file.head) == "parquet"
        or file.begin.startswith((b"{", b"[", b"<"))
        or suffix in (*SUFFIXES["tsv"], *SUFFIXES["csv"], *SUFFIXES["jsonl"])
    )
    if not is_told and b"\t" not in file.begin.partition(b"\n")[0]:
        said = "Cannot tell the format from the name or content. Expected queries: JSON, TSV, CSV, TREC topics, .txt."
        raise UnknownFormatError(said, file.name)
    for number, record in question_records(file, reading):
        yield number, Query(record["id"] or str(number), record["question"])


def read_qrels(path: PathOrStream) -> dict[str, dict[str, int]]:
    """Read judgements: TREC's four columns (query, 0, passage, grade) or three (query, passage, grade).

    Three columns may have BEIR's header. Columns are separated by tabs, or by white space in a line without tabs; the
    file may be gzipped.

    :param path: a file or a binary stream.
    :returns: ``{query id: {passage id: grade}}`` in the order of the file.
    :raises ReaderError: if the file or one of its lines cannot be read, or a pair is judged twice and differently.

    >>> import io
    >>> read_qrels(io.BytesIO(b"q1 0 p1 2"))
    {'q1': {'p1': 2}}
    """
    qrels: dict[str, dict[str, int]] = {}
    source = source_of(path)
    header_allowed = True

    def add(_: int, line: str) -> None:
        nonlocal header_allowed
        cells = [cell.strip() for cell in (chomp(line).split("\t") if "\t" in line else line.split())]
        may_be_header, header_allowed = header_allowed, False
        if may_be_header and cells[0].lower() in _HEADER and not _GRADE.fullmatch(cells[-1]):
            return
        query, passage, grade = _judgement(cells)
        before = qrels.setdefault(query, {}).setdefault(passage, grade)
        if before != grade:
            raise Malformed(f"Query {query!r} and passage {passage!r} are judged twice: {before} and {grade}.")

    with source.open() as file:
        need_readable(file, "qrels")
        for _ in parse_lines(file, Reading(), add):
            pass
    if not qrels:
        raise ReaderError("The file holds no judgements.", source.name)
    return qrels


def _judgement(cells: list[str]) -> tuple[str, str, int]:
    if len(cells) not in (3, 4):
        raise Malformed(f"Expected 3 columns (query, passage, grade) or TREC's 4, got {len(cells)}.")
    query, passage, grade = cells[0], cells[-2], cells[-1]
    if not query or not passage:
        raise Malformed("The query or passage id is empty.")
    if not _GRADE.fullmatch(grade):
        raise Malformed(f"The grade must be a whole number, got {grade[:40]!r}.")
    return query, passage, int(grade)


@dataclass(frozen=True, slots=True)
class BeirFolder:
    """Where the parts of a test collection are.

    :param corpus: passages, for :func:`read_passages`.
    :param queries: questions, for :func:`read_queries`.
    :param qrels: judgements, for :func:`read_qrels`.
    """

    corpus: Path
    queries: Path
    qrels: Path


def find_beir(folder: str | Path, *, split: str = "test") -> BeirFolder:
    """Find the parts of a test collection; each may be gzipped.

    Judgements are ``qrels/<split>.tsv``, ``qrels.<split>.tsv``, or else the only
    other ``qrels*.tsv`` or ``qrels/*.tsv``.

    :param folder: the folder.
    :param split: which judgements, where there are several.
    :raises ReaderError: if a part is missing, or the folder has several judgement files and none of that split.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ReaderError("There is no such folder.", str(folder))
    return BeirFolder(_part(root, "corpus.jsonl"), _part(root, "queries.jsonl"), _qrels(root, split))


def _part(root: Path, name: str) -> Path:
    found = plain_or_gzip(root / name)
    if found is None:
        raise ReaderError(f"The folder has no {name} (or {name}.gz), so it is not in BEIR's layout.", str(root))
    return found


def plain_or_gzip(path: Path) -> Path | None:
    """Return which of the two is there."""
    return next((p for p in (path, path.with_name(path.name + ".gz")) if p.is_file()), None)


def _qrels(root: Path, split: str) -> Path:
    for name in (f"qrels/{split}.tsv", f"qrels.{split}.tsv", "qrels.tsv"):
        if found := plain_or_gzip(root / name):
            return found
    patterns = ("qrels/*.tsv", "qrels/*.tsv.gz", "qrels*.tsv", "qrels*.tsv.gz")
    found_all = sorted(path for pattern in patterns for path in root.glob(pattern) if path.is_file())
    if len(found_all) == 1:
        return found_all[0]
    names = ", ".join(path.relative_to(root).as_posix() for path in found_all)
    problem = f"several judgement files ({names}), none of them of the split {split!r}" if names else "no qrels/*.tsv"
    raise ReaderError(f"The folder has {problem}.", str(root))
