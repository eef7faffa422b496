"""Training a cross-encoder on groups: one query, a passage that answers it, and several that only look like it.

Each group is a small ranking, and the loss asks for the positive at its top (localized contrastive estimation, Gao et
al. 2021, "Rethink Training of BERT Rerankers in Multi-Stage Retrieval Pipeline"). A share of balanced binary
cross-entropy keeps the logit a statement about the single pair, so that thresholds still mean something.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.readers.detect import check_readable
from biorerank_plugins.readers.lines import parse_lines
from biorerank_plugins.readers.records import as_text, parse_object
from biorerank_plugins.readers.report import Malformed, Reading
from biorerank_plugins.readers.source import source_of
from biorerank_plugins.training.rows import TrainingPair, read_rows
from biorerank_plugins.training.sampler import similar_length_sampler
from biorerank_plugins.training.tasks import Task

if TYPE_CHECKING:
    import torch
    from sentence_transformers import CrossEncoder

__all__ = ["GROUPS", "RankingGroup", "check_groups", "group_loss", "groups_from_pairs", "read_groups"]

NEGATIVES = 6
"""Negatives that :func:`groups_from_pairs` puts beside a positive."""

PAIR_WEIGHT = 0.2
TOKENS_AT_ONCE = 4096
_CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class RankingGroup:
    """One training group.

    :param query: what is asked, in any form: question, claim, keyword phrase.
    :param positive: a passage that answers it.
    :param negatives: passages that do not; at least one.
    :param source: which kind of group it is, for statistics.
    """

    query: str
    positive: str
    negatives: tuple[str, ...]
    source: str = ""


def read_groups(path: str | Path) -> list[RankingGroup]:
    """Read groups from JSON Lines, gzipped or not: ``{"query", "positive", "negatives", "source"?}``.

    A file of (question, passage, label) rows, as ``biorerank pairs`` writes it, is read too and grouped by question.

    :param path: the file.
    :raises ReaderError: names file and line of what is neither.
    """
    source = source_of(path)
    with source.open() as file:
        try:
            check_readable(file.head, "jsonl")
        except Malformed as problem:
            raise ReaderError(str(problem), file.name) from None
        if b'"label"' not in file.head or b'"negatives"' in file.head:
            return list(parse_lines(file, Reading(), lambda _, line: _group(parse_object(line))))
    return groups_from_pairs(read_rows(path))


def _group(record: dict[str, Any]) -> RankingGroup:
    negatives = record.get("negatives")
    if "query" not in record or "positive" not in record or not isinstance(negatives, list):
        raise Malformed(f"Expected 'query', 'positive' and a list 'negatives'; the keys are: {', '.join(record)}.")
    return RankingGroup(
        as_text(record["query"], "query").strip(),
        as_text(record["positive"], "positive").strip(),
        tuple(as_text(text, "negatives").strip() for text in negatives),
        str(record.get("source") or ""),
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

    :raises ValueError: if there are none, a text is empty, or a group has no negative.
    """
    if not groups:
        raise ValueError("There are no training groups: a question needs a positive and a negative.")
    for number, group in enumerate(groups):
        if not group.query.strip() or not group.positive.strip():
            raise ValueError(f"Group {number} has an empty query or an empty positive.")
        if not group.negatives or not all(text.strip() for text in group.negatives):
            raise ValueError(f"Group {number} ({group.query[:60]!r}) needs at least one negative, and none empty.")


def group_loss(logits: torch.Tensor, sizes: Sequence[int], pair_weight: float = PAIR_WEIGHT) -> torch.Tensor:
    """Return the loss of some groups.

    :param logits: float [sum of sizes], group after group, each group's positive first.
    :param sizes: passages in each group.
    :param pair_weight: weight of the binary cross-entropy, in which a group's positive counts as much as its negatives.
    :returns: a scalar: mean over the groups of ``-log softmax(positive) + pair_weight · BCE``.

    >>> import torch
    >>> round(group_loss(torch.tensor([0.0, 0.0]), [2], pair_weight=0.0).item(), 4)
    0.6931
    """
    import torch
    from torch.nn import functional

    losses = []
    for group in torch.split(logits, list(sizes)):
        contrast = -functional.log_softmax(group, dim=0)[0]
        pair = 0.5 * functional.softplus(-group[0]) + 0.5 * functional.softplus(group[1:]).mean()
        losses.append(contrast + pair_weight * pair)
    return torch.stack(losses).mean()


def _describe(groups: Sequence[RankingGroup]) -> dict[str, Any]:
    def spread(lengths: list[int]) -> list[float]:
        return [min(lengths), round(fmean(lengths), 2), max(lengths)]

    passages = [len(text) for group in groups for text in (group.positive, *group.negatives)]
    return {
        "rows": len(groups),
        "by_source": dict(Counter(group.source for group in groups)),
        "question_characters": spread([len(group.query) for group in groups]),
        "passage_characters": spread(passages),
        "label_mean": round(len(groups) / len(passages), 4),
    }


def _columns(groups: Sequence[RankingGroup]) -> dict[str, list[Any]]:
    return {
        "query": [group.query for group in groups],
        "passages": [[group.positive, *group.negatives] for group in groups],
        "labels": [[1.0] + [0.0] * len(group.negatives) for group in groups],
    }


def _loss(model: CrossEncoder, config: Any) -> torch.nn.Module:
    """Return the loss in the form that the trainer calls: a module over (columns, labels)."""
    import torch
    from sentence_transformers.util import batch_to_device

    class GroupLoss(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, inputs: Any, labels: Any, prompt: str | None = None, task: str | None = None) -> torch.Tensor:
            queries, lists = inputs
            pairs = [(query, passage) for query, passages in zip(queries, lists, strict=True) for passage in passages]
            # Short pairs run with short ones: padding is paid for in full on a CPU.
            order = sorted(range(len(pairs)), key=lambda p: -len(pairs[p][0]) - len(pairs[p][1]))
            scored: list[torch.Tensor] = []
            for part in _parts(order, pairs, config.train_length, TOKENS_AT_ONCE):
                tokens = batch_to_device(self.model.preprocess([pairs[p] for p in part]), self.model.device)
                scored.append(self.model(tokens)["scores"].view(-1).float())
            place = torch.tensor(order, device=self.model.device).argsort()
            return group_loss(torch.cat(scored)[place], [len(passages) for passages in lists])

    return GroupLoss()


def _parts(
    order: Sequence[int], pairs: Sequence[tuple[str, str]], train_length: int, tokens_at_once: int
) -> Iterator[list[int]]:
    """Cut pairs, longest first, into parts of about ``tokens_at_once`` padded tokens."""
    part: list[int] = []
    longest = 1
    for position in order:
        if not part:
            characters = len(pairs[position][0]) + len(pairs[position][1])
            longest = min(train_length, characters // _CHARACTERS_PER_TOKEN + 4)
        part.append(position)
        if (len(part) + 1) * longest > tokens_at_once:
            yield part
            part = []
    if part:
        yield part


GROUPS = Task(
    name="groups",
    read=read_groups,
    check=check_groups,
    describe=_describe,
    columns=_columns,
    questions=lambda groups: (group.query for group in groups),
    loss=_loss,
    loss_name=f"localized contrastive estimation + {PAIR_WEIGHT} · balanced binary cross-entropy",
    sampler=similar_length_sampler,
    sample=lambda group: (group.query, group.positive, "1"),
)
"""One positive against its negatives, as a ranking."""
