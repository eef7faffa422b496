"""Run files in the form that TREC tools read: ``query Q0 passage rank score tag``, one passage a line."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

from biorerank_plugins._common.files import write_whole
from biorerank_plugins.errors import ReaderError
from biorerank_plugins.evaluation.metrics import Run
from biorerank_plugins.readers.source import source_of

__all__ = ["read_run", "write_run"]


def write_run(run: Run, path: str | Path, *, tag: str = "biorerank") -> None:
    """Write a run, each query's passages by falling score (equal scores in the order of the mapping).

    The file is written beside its place and moved there, so that it is never half there.

    :param run: scores, higher is better.
    :param path: where to write; its folder must exist. A file that ends in ``.gz`` is gzipped.
    :param tag: name of the run, the last column.
    :raises ValueError: if an id or the tag is empty or holds white space, which separates the columns.

    >>> write_run({"q1": {"p7": 0.9}}, "/tmp/run.trec")  # doctest: +SKIP
    """
    path = Path(path)
    _check_word(tag, "tag")
    lines = []
    for query_id, scores in run.items():
        _check_word(query_id, "query id")
        ordered = sorted(scores.items(), key=lambda item: -item[1])
        for rank, (passage_id, score) in enumerate(ordered, start=1):
            _check_word(passage_id, "passage id")
            lines.append(f"{query_id} Q0 {passage_id} {rank} {float(score)!r} {tag}\n")
    content = "".join(lines).encode("utf-8")
    write_whole(path, gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def read_run(path: str | Path) -> dict[str, dict[str, float]]:
    """Read a run file; the score decides the order, as in trec_eval, and the rank column is not used.

    :param path: the file; it may be compressed and begin with a byte order mark.
    :raises ReaderError: if the file cannot be read or a line is not of the form above; names file and line.
    """
    run: dict[str, dict[str, float]] = {}
    with source_of(path).open() as file:
        text = file.stream.read().decode("utf-8-sig")
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            query_id, passage_id, score = _parse_line(line, str(path), number)
            scores = run.setdefault(query_id, {})
            if passage_id in scores:
                raise ReaderError(f"passage {passage_id!r} is listed twice for query {query_id!r}", str(path), number)
            scores[passage_id] = score
    return run


def _parse_line(line: str, path: str, number: int) -> tuple[str, str, float]:
    columns = line.split()
    if len(columns) != 6:
        raise ReaderError(f"expected 6 columns (query Q0 passage rank score tag), got {len(columns)}", path, number)
    try:
        score = float(columns[4])
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise ReaderError(f"expected a finite number as score, got {columns[4]!r}", path, number)
    return columns[0], columns[2], score


def _check_word(word: str, name: str) -> None:
    if not word or len(word.split()) != 1 or word.split()[0] != word:
        raise ValueError(f"The {name} {word!r} cannot stand in a run file: it must be one word without white space.")
