"""Training groups: one query, passages that answer it, and several that only look like it."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biorerank_plugins.readers.objects import read_objects
from biorerank_plugins.readers.records import as_text
from biorerank_plugins.readers.report import Malformed
from biorerank_plugins.readers.source import source_of
from biorerank_plugins.training.rows import TrainingPair, read_rows, statistics

NEGATIVES = 6
"""Negatives that :func:`groups_from_pairs` puts beside a positive."""

MOST_LOG_ODDS = 1000


@dataclass(frozen=True, slots=True)
class RankingGroup:
    """One training group.

    :param prior: log-odds that the first stage gives each passage, up to a constant: positive, further positives,
        negatives. Empty where it is not known.
    :param teacher: log-odds that a stronger ranker gives each passage, up to a constant, in the same order. The model
        learns this order instead of the labels', and the prior counts for nothing. Empty where there is none.
    """

    query: str  # in any form: question, claim, keyword phrase
    positive: str
    negatives: tuple[str, ...]  # at least one
    source: str = ""  # which kind of group it is, for statistics
    more_positives: tuple[str, ...] = ()
    prior: tuple[float, ...] = ()
    teacher: tuple[float, ...] = ()

    @property
    def positives(self) -> tuple[str, ...]:
        """All passages that answer the query."""
        return (self.positive, *self.more_positives)

    @property
    def passages(self) -> tuple[str, ...]:
        """All passages, the positives first."""
        return (*self.positives, *self.negatives)


def read_groups(path: str | Path) -> list[RankingGroup]:
    """Read groups from JSON Lines, gzipped or not.

    A line is ``{"query", "positive", "negatives", "source"?, "prior"?, "teacher"?}``, as in :class:`RankingGroup`.
    ``positive`` is a text, or a list of them. A file of (question, passage, label) rows, as ``biorerank pairs`` writes
    it, is read too and grouped by question.

    :raises ReaderError: names file and line of what is neither.
    """
    with source_of(path).open() as file:
        holds_rows = b'"label"' in file.head and b'"negatives"' not in file.head
    return groups_from_pairs(read_rows(path)) if holds_rows else read_objects(path, _group)


def _group(record: dict[str, Any]) -> RankingGroup:
    negatives = record.get("negatives")
    if "query" not in record or "positive" not in record or not isinstance(negatives, list):
        raise Malformed(f"Expected 'query', 'positive' and a list 'negatives'; the keys are: {', '.join(record)}.")
    given = record["positive"]
    positives = [as_text(text, "positive").strip() for text in (given if isinstance(given, list) else [given])]
    if not positives:
        raise Malformed("'positive' is an empty list.")
    return RankingGroup(
        as_text(record["query"], "query").strip(),
        positives[0],
        tuple(as_text(text, "negatives").strip() for text in negatives),
        str(record.get("source") or ""),
        tuple(positives[1:]),
        _log_odds(record, "prior"),
        _log_odds(record, "teacher"),
    )


def _log_odds(record: dict[str, Any], key: str) -> tuple[float, ...]:
    given = record.get(key)
    given = [] if given is None else given
    if not isinstance(given, list) or not all(isinstance(p, int | float) and not isinstance(p, bool) for p in given):
        raise Malformed(f"{key!r} is no list of numbers.")
    if any(abs(p) > MOST_LOG_ODDS for p in given):
        raise Malformed(f"{key!r} holds a number beyond ±{MOST_LOG_ODDS}, which is no log-odds.")
    return tuple(map(float, given))


def groups_from_pairs(
    rows: Sequence[TrainingPair], *, negatives: int = NEGATIVES, seed: int = 42
) -> list[RankingGroup]:
    """Put each positive row (a label above 0.5) beside negatives of the same question, in the order of the positives.

    :param negatives: at most so many in a group, drawn anew for each positive; without any it is left out.

    >>> rows = [TrainingPair("q", "yes", 1.0), TrainingPair("q", "no", 0.0)]
    >>> groups_from_pairs(rows)[0].negatives
    ('no',)
    """
    draw = random.Random(seed)
    against: dict[str, list[str]] = {}
    for row in rows:
        if row.label <= 0.5:
            against.setdefault(row.question, []).append(row.passage)
    groups = []
    for row in rows:
        found = against.get(row.question, [])
        if row.label > 0.5 and found:
            chosen = draw.sample(found, min(negatives, len(found)))
            groups.append(RankingGroup(row.question, row.passage, tuple(chosen), row.source))
    return groups


def check_groups(groups: Sequence[RankingGroup]) -> None:
    """Refuse groups that nothing can be learned from with a ``ValueError``."""
    if not groups:
        raise ValueError("There are no training groups: a question needs a positive and a negative.")
    for number, group in enumerate(groups):
        if not group.query.strip() or not all(text.strip() for text in group.positives):
            raise ValueError(f"Group {number} has an empty query or an empty positive.")
        if not group.negatives or not all(text.strip() for text in group.negatives):
            raise ValueError(f"Group {number} ({group.query[:60]!r}) needs at least one negative, and none empty.")
        for name, scores in (("prior", group.prior), ("score of a teacher", group.teacher)):
            if scores and (len(scores) != len(group.passages) or not all(map(math.isfinite, scores))):
                raise ValueError(
                    f"Group {number} ({group.query[:60]!r}) needs a finite {name} for each of its passages."
                )


def describe_groups(groups: Sequence[RankingGroup]) -> dict[str, Any]:
    """Return the statistics that a model card states, as :func:`~.rows.describe` does for pairs."""
    labels = [(text, float(n < len(one.positives))) for one in groups for n, text in enumerate(one.passages)]
    return statistics([(group.query, group.source) for group in groups], labels)


def group_columns(groups: Sequence[RankingGroup]) -> dict[str, list[Any]]:
    """Return the columns of the data set: query, passages, and label, prior and teacher's score of each passage."""
    return {
        "question": [group.query for group in groups],
        "passage": [list(group.passages) for group in groups],
        "labels": [_facts(group) for group in groups],
    }


def _facts(group: RankingGroup) -> list[list[float]]:
    unknown = [math.nan] * len(group.passages)
    known = zip(group.prior or unknown, group.teacher or unknown, strict=True)
    return [[float(n < len(group.positives)), *scores] for n, scores in enumerate(known)]
