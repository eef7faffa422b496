"""Training rows: (question, passage, label), read, checked, written and described."""

from __future__ import annotations

import gzip
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from biorerank_plugins._common.files import whole_file
from biorerank_plugins.readers.objects import read_objects
from biorerank_plugins.readers.records import as_text, listed
from biorerank_plugins.readers.report import Malformed

CARD_STATISTICS: dict[str, Any] = {
    "rows": 120_312,
    "question_characters": [14, 59.26, 215],
    "passage_characters": [12, 179.42, 1494],
    "label_mean": 0.49,
}
"""What the card of the BioBERT cross-encoder that this project started from states about its rows."""


@dataclass(frozen=True, slots=True)
class TrainingPair:
    """One training row: ``label`` is 1.0 where ``passage`` is evidence for ``question``; ``source`` says its kind."""

    question: str
    passage: str
    label: float
    source: str = ""


def normalised(text: str) -> str:
    """Return letters and digits in lower case: what makes two questions, or two passages, the same.

    >>> normalised("Is TP53 a tumour-suppressor?") == normalised("is tp53 a tumour suppressor")
    True
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(filter(str.isalnum, folded)) or folded.strip()


def read_rows(path: str | Path) -> list[TrainingPair]:
    """Read rows from JSON Lines, gzipped or not: ``{"question", "passage", "label", "source"?}``.

    :raises ReaderError: names file and line of what is no row.
    """
    return read_objects(path, _row)


def _row(record: dict[str, Any]) -> TrainingPair:
    missing = [key for key in ("question", "passage", "label") if key not in record]
    if missing:
        raise Malformed(f"No {missing[0]!r}; the keys are: {listed(record)}.")
    label = record["label"]
    if isinstance(label, bool) or not isinstance(label, (int, float)) or not 0 <= label <= 1:
        raise Malformed(f"The label must be 0, 1 or a number between, got {json.dumps(label)[:40]}.")
    return TrainingPair(
        as_text(record["question"], "question").strip(),
        as_text(record["passage"], "passage").strip(),
        float(label),
        str(record.get("source") or ""),
    )


def write_rows(rows: Iterable[TrainingPair], path: str | Path) -> None:
    """Write rows as JSON Lines, gzipped if the name ends in ``.gz``; equal rows give equal bytes."""
    path = Path(path)
    zipped = path.suffix == ".gz"
    with whole_file(path) as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if zipped else nullcontext(raw) as file:
        for row in rows:
            file.write(json.dumps(asdict(row), ensure_ascii=False).encode() + b"\n")


def check_rows(rows: Sequence[TrainingPair]) -> None:
    """Refuse rows that nothing can be learned from with a ``ValueError``."""
    if not rows:
        raise ValueError("There are no training rows.")
    for number, row in enumerate(rows):
        if not 0.0 <= row.label <= 1.0:
            raise ValueError(f"Row {number} has label {row.label!r}; expected a number in [0, 1].")
        for name, text in (("question", row.question), ("passage", row.passage)):
            if not text.strip():
                raise ValueError(f"Row {number} has an empty {name}.")
    if len({row.label > 0.5 for row in rows}) < 2:
        raise ValueError("All rows have labels on one side of 0.5; a cross-encoder needs positives and negatives.")


def shared_questions(questions: Iterable[str], held_out: Iterable[str]) -> list[str]:
    """Return the questions that are held out, each once, in order; same means equal letters and digits."""
    kept_apart = {normalised(text) for text in held_out}
    found: dict[str, str] = {}
    for text in questions:
        key = normalised(text)
        if key in kept_apart:
            found.setdefault(key, text)
    return list(found.values())


def describe(rows: Sequence[TrainingPair]) -> dict[str, Any]:
    """Return the statistics that a model card states: counts, characters (min, mean, max) and the label mean.

    :raises ValueError: if there are none.
    """
    if not rows:
        raise ValueError("There are no rows to describe.")
    labels = [(row.passage, row.label) for row in rows]
    return statistics([(row.question, row.source) for row in rows], labels)


def statistics(questions: Sequence[tuple[str, str]], passages: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """Return what :func:`describe` does, of questions with their sources, and passages with their labels."""
    return {
        "rows": len(questions),
        "by_source": dict(Counter(source for _, source in questions)),
        "question_characters": _spread([len(text) for text, _ in questions]),
        "passage_characters": _spread([len(text) for text, _ in passages]),
        "label_mean": round(fmean(label for _, label in passages), 4),
    }


def _spread(lengths: Sequence[int]) -> list[float]:
    return [min(lengths), round(fmean(lengths), 2), max(lengths)]
