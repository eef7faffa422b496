"""Training groups: one query, passages that answer it, and several that only look like it."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biorerank_plugins.readers.objects import read_objects
from biorerank_plugins.readers.records import as_text
from biorerank_plugins.readers.report import Malformed
from biorerank_plugins.readers.source import source_of
from biorerank_plugins.training.rows import TrainingPair, read_rows, spread

NEGATIVES = 6
"""Negatives that :func:`groups_from_pairs` puts beside a positive."""

MOST_LOG_ODDS = 1000


@dataclass(frozen=True, slots=True)
class RankingGroup:
    """One training group.

    :param query: what is asked, in any form: question, claim, keyword phrase.
    :param positive: a passage that answers it.
    :param negatives: passages that do not; at least one.
    :param source: which kind of group it is, for statistics.
    :param more_positives: further passages that answer it.
    :param prior: log-odds that the first stage gives each passage, up to a constant: positive, further positives,
        negatives. Empty where it is not known.
    """

    query: str
    positive: str
    negatives: tuple[str, ...]
    source: str = ""
    more_positives: tuple[str, ...] = ()
    prior: tuple[float, ...] = ()

    @property
    def positives(self) -> tuple[str, ...]:
        """All passages that answer the query."""
        return (self.positive, *self.more_positives)

    @property
    def passages(self) -> tuple[str, ...]:
        """All passages, the positives first."""
        return (*self.positives, *self.negatives)


def read_groups(path: str | Path) -> list[RankingGroup]:
    """Read groups from JSON Lines, gzipped or not: ``{"query", "positive", "negatives", "source"?, "prior"?}``.

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
    prior = record.get("prior")
    prior = [] if prior is None else prior
    if not isinstance(prior, list) or not all(isinstance(p, int | float) and not isinstance(p, bool) for p in prior):
        raise Malformed("'prior' is no list of numbers.")
    if any(abs(p) > MOST_LOG_ODDS for p in prior):
        raise Malformed(f"'prior' holds a number beyond ±{MOST_LOG_ODDS}, which is no log-odds.")
    return RankingGroup(
        as_text(record["query"], "query").strip(),
        positives[0],
        tuple(as_text(text, "negatives").strip() for text in negatives),
        str(record.get("source") or ""),
        tuple(positives[1:]),
        tuple(map(float, prior)),
    )


def groups_from_pairs(
    rows: Sequence[TrainingPair], *, negatives: int = NEGATIVES, seed: int = 42
) -> list[RankingGroup]:
    """Put each positive row beside negatives of the same question.

    :param rows: (question, passage, label) rows; a label above 0.5 is positive.
    :param negatives: at most so many in a group, drawn anew for each positive.
    :param seed: of the draw.
    :returns: groups in the order of their positives; a positive whose question has no negative is left out.

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
    """Refuse groups that nothing can be learned from.

    :raises ValueError: if there are none, a text is empty, a group has no negative, or not one finite prior a passage.
    """
    if not groups:
        raise ValueError("There are no training groups: a question needs a positive and a negative.")
    for number, group in enumerate(groups):
        if not group.query.strip() or not all(text.strip() for text in group.positives):
            raise ValueError(f"Group {number} has an empty query or an empty positive.")
        if not group.negatives or not all(text.strip() for text in group.negatives):
            raise ValueError(f"Group {number} ({group.query[:60]!r}) needs at least one negative, and none empty.")
        if group.prior and (len(group.prior) != len(group.passages) or not all(map(math.isfinite, group.prior))):
            raise ValueError(f"Group {number} ({group.query[:60]!r}) needs a finite prior for each of its passages.")


def describe_groups(groups: Sequence[RankingGroup]) -> dict[str, Any]:
    """Return the statistics that a model card states, as :func:`~.rows.describe` does for pairs."""
    passages = [len(text) for group in groups for text in group.passages]
    positives = sum(len(group.positives) for group in groups)
    return {
        "rows": len(groups),
        "by_source": dict(Counter(group.source for group in groups)),
        "question_characters": spread([len(group.query) for group in groups]),
        "passage_characters": spread(passages),
        "label_mean": round(positives / len(passages), 4),
    }


def group_columns(groups: Sequence[RankingGroup]) -> dict[str, list[Any]]:
    """Return the columns of the data set: query, passages, and label and prior of each passage."""
    return {
        "query": [group.query for group in groups],
        "passages": [list(group.passages) for group in groups],
        "labels": [
            [[float(n < len(one.positives)), p] for n, p in enumerate(one.prior or [math.nan] * len(one.passages))]
            for one in groups
        ],
    }
