"""Run files in the form that TREC tools read: ``query Q0 passage rank score tag``, one passage a line."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

from biorerank_plugins._common.files import write_whole
from biorerank_plugins.evaluation.metrics import Run
from biorerank_plugins.readers.lines import parse_lines
from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.readers.source import PathOrStream, source_of


def write_run(run: Run, path: str | Path, *, tag: str = "biorerank") -> None:
    """Write a run, each query's passages by falling score (equal scores in the order of the mapping).

    :param run: scores, higher is better.
    :param path: where to write; its folder must exist. ``.gz`` is gzipped. The file is never half there.
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


def read_run(path: PathOrStream) -> dict[str, dict[str, float]]:
    """Read a run file; the score decides the order, as in trec_eval, and the rank column is not used.

    :param path: the file; it may be compressed and begin with a byte order mark.
    :raises ReaderError: if the file cannot be read or a line is not of the form above; names file and line.
    """
    run: dict[str, dict[str, float]] = {}

    def add(_: int, line: str) -> None:
        query_id, passage_id, score = _parse_line(line)
        scores = run.setdefault(query_id, {})
        if passage_id in scores:
            raise Malformed(f"passage {passage_id!r} is listed twice for query {query_id!r}")
        scores[passage_id] = score

    with source_of(path).open() as file:
        for _ in parse_lines(file, Reading(), add):
            pass
    return run


def _parse_line(line: str) -> tuple[str, str, float]:
    columns = line.split()
    if len(columns) != 6:
        raise Malformed(f"expected 6 columns (query Q0 passage rank score tag), got {len(columns)}")
    try:
        score = float(columns[4])
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise Malformed(f"expected a finite number as score, got {columns[4]!r}")
    return columns[0], columns[2], score


def _check_word(word: str, name: str) -> None:
    if word.split() != [word]:
        raise ValueError(f"The {name} {word!r} cannot stand in a run file: it must be one word without white space.")
