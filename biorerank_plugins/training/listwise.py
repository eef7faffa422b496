"""Training a cross-encoder on groups: one query, passages that answer it, and several that only look like it.

Each group is a small ranking, and the loss asks for the positives at its top (localized contrastive estimation, Gao et
al. 2021, "Rethink Training of BERT Rerankers in Multi-Stage Retrieval Pipeline"). A share of balanced binary
cross-entropy keeps the logit a statement about the single pair, so that thresholds still mean something.

A group may say what the first stage holds of its passages. Then half of the contrast is asked of the sum of both, as it
is ranked by where scores are fused: the model learns what the first stage does not know (Gao et al. 2021, "Complement
Lexical Retrieval Model with Semantic Residual Embeddings", does so for a retriever). And it learns how the first stage
orders the negatives, which keeps general relevance where the judgements say nothing.
"""

from __future__ import annotations

import math
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
DISTIL_WEIGHT = 0.25
MOST_LOG_ODDS = 1000
TOKENS_AT_ONCE = 4096
_CHARACTERS_PER_TOKEN = 4


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


def group_loss(
    logits: torch.Tensor,
    sizes: Sequence[int],
    pair_weight: float = PAIR_WEIGHT,
    *,
    positives: Sequence[int] | None = None,
    prior: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the loss of some groups.

    :param logits: float [sum of sizes], group after group, each group's positives first.
    :param sizes: passages in each group.
    :param pair_weight: weight of the binary cross-entropy, in which a group's positives count as much as its negatives.
    :param positives: positives in each group; ``None`` for one each.
    :param prior: float [sum of sizes], log-odds of the first stage; NaN throughout a group where they are not known.
    :returns: a scalar: mean over the groups of ``contrast + pair_weight · BCE``. The contrast is the mean over the
        positives of ``-log softmax`` of that positive and all negatives; with a prior, half of it is asked of
        ``logits + prior``, and ``0.25 · KL(softmax prior ‖ softmax logits)`` over the negatives is added.

    >>> import torch
    >>> round(group_loss(torch.tensor([0.0, 0.0]), [2], pair_weight=0.0).item(), 4)
    0.6931
    """
    import torch
    from torch.nn import functional

    cuts = list(sizes)
    priors = [None] * len(cuts) if prior is None else torch.split(prior, cuts)
    losses = []
    for group, known, n in zip(torch.split(logits, cuts), priors, positives or [1] * len(cuts), strict=True):
        good, bad = group[:n], group[n:]
        loss = _contrast(good, bad)
        if known is not None and not bool(known.isnan().any()):
            loss = 0.5 * loss + 0.5 * _contrast(good + known[:n], bad + known[n:])
            first_stage = functional.log_softmax(known[n:], dim=0)
            own = functional.log_softmax(bad, dim=0)
            loss = loss + DISTIL_WEIGHT * functional.kl_div(own, first_stage, reduction="sum", log_target=True)
        pair = 0.5 * functional.softplus(-good).mean() + 0.5 * functional.softplus(bad).mean()
        losses.append(loss + pair_weight * pair)
    return torch.stack(losses).mean()


def _contrast(good: torch.Tensor, bad: torch.Tensor) -> torch.Tensor:
    """Mean over the positives of ``-log softmax`` of each among all negatives."""
    import torch

    return (torch.logaddexp(good, torch.logsumexp(bad, dim=0)) - good).mean()


def _describe(groups: Sequence[RankingGroup]) -> dict[str, Any]:
    def spread(lengths: list[int]) -> list[float]:
        return [min(lengths), round(fmean(lengths), 2), max(lengths)]

    passages = [len(text) for group in groups for text in group.passages]
    positives = sum(len(group.positives) for group in groups)
    return {
        "rows": len(groups),
        "by_source": dict(Counter(group.source for group in groups)),
        "question_characters": spread([len(group.query) for group in groups]),
        "passage_characters": spread(passages),
        "label_mean": round(positives / len(passages), 4),
    }


def _columns(groups: Sequence[RankingGroup]) -> dict[str, list[Any]]:
    return {
        "query": [group.query for group in groups],
        "passages": [list(group.passages) for group in groups],
        # Label and prior of each passage.
        "labels": [
            [
                [float(n < len(group.positives)), p]
                for n, p in enumerate(group.prior or [math.nan] * len(group.passages))
            ]
            for group in groups
        ],
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
            facts = torch.cat([torch.as_tensor(label) for label in labels]).to(self.model.device)
            return group_loss(
                torch.cat(scored)[place],
                [len(passages) for passages in lists],
                positives=[int(torch.as_tensor(label)[:, 0].sum()) for label in labels],
                prior=facts[:, 1].float(),
            )

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
"""Positives against negatives of the same query, as a ranking."""
