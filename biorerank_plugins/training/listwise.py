"""Training a cross-encoder on groups: one query, passages that answer it, and several that only look like it.

Each group is a small ranking, and the loss asks for the positives at its top (localized contrastive estimation, Gao et
al. 2021, "Rethink Training of BERT Rerankers in Multi-Stage Retrieval Pipeline"). A share of balanced binary
cross-entropy keeps the logit a statement about the single pair, so that thresholds still mean something.

A group may say what the first stage holds of its passages. Then half of the contrast is asked of the sum of both, as
where scores are fused: the model learns what the first stage does not know (as Gao et al. 2021, "Complement Lexical
Retrieval Model with Semantic Residual Embeddings"), and, to keep general relevance, how it orders the negatives.

A group may have a teacher's scores instead. Then the model learns the teacher's distribution over the passages, in
which what the labels do not tell is graded too (listwise distillation, as Cao et al. 2007, "Learning to Rank: From
Pairwise Approach to Listwise Approach").
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from biorerank_plugins.training.groups import check_groups, describe_groups, group_columns, read_groups
from biorerank_plugins.training.tasks import Task, length_grouped_sampler

if TYPE_CHECKING:
    import torch
    from sentence_transformers import CrossEncoder

PAIR_WEIGHT = 0.2
DISTIL_WEIGHT = 0.25
TOKENS_AT_ONCE = 4096
_CHARACTERS_PER_TOKEN = 4


def group_loss(
    logits: torch.Tensor,
    sizes: Sequence[int],
    pair_weight: float = PAIR_WEIGHT,
    *,
    positives: Sequence[int] | None = None,
    prior: torch.Tensor | None = None,
    teacher: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the loss of some groups.

    :param logits: float [sum of sizes], group after group, each group's positives first.
    :param sizes: passages in each group.
    :param pair_weight: weight of the binary cross-entropy, in which a group's positives count as much as its negatives.
    :param positives: positives in each group; ``None`` for one each.
    :param prior: float [sum of sizes], log-odds of the first stage; NaN throughout a group where they are not known.
    :param teacher: float [sum of sizes], log-odds of a teacher; NaN throughout a group that has none.
    :returns: a scalar: mean over the groups of ``contrast + pair_weight · BCE``. The contrast is the mean over the
        positives of ``-log softmax`` of that positive and all negatives; with a prior, half of it is asked of
        ``logits + prior``, and ``0.25 · KL(softmax prior ‖ softmax logits)`` over the negatives is added. With a
        teacher it is ``KL(softmax teacher ‖ softmax logits)`` over all passages.

    >>> import torch
    >>> round(group_loss(torch.tensor([0.0, 0.0]), [2], pair_weight=0.0).item(), 4)
    0.6931
    """
    import torch
    from torch.nn import functional

    cuts = list(sizes)
    unknown = torch.full_like(logits, math.nan)
    priors = torch.split(unknown if prior is None else prior, cuts)
    teachers = torch.split(unknown if teacher is None else teacher, cuts)
    losses = []
    for group, known, taught, n in zip(
        torch.split(logits, cuts), priors, teachers, positives or [1] * len(cuts), strict=True
    ):
        good, bad = group[:n], group[n:]
        if not bool(taught.isnan().any()):
            loss = _divergence(taught, group)
        elif bool(known.isnan().any()):
            loss = _contrast(good, bad)
        else:
            loss = 0.5 * _contrast(good, bad) + 0.5 * _contrast(good + known[:n], bad + known[n:])
            loss = loss + DISTIL_WEIGHT * _divergence(known[n:], bad)
        pair = 0.5 * functional.softplus(-good).mean() + 0.5 * functional.softplus(bad).mean()
        losses.append(loss + pair_weight * pair)
    return torch.stack(losses).mean()


def _contrast(good: torch.Tensor, bad: torch.Tensor) -> torch.Tensor:
    """Mean over the positives of ``-log softmax`` of each among all negatives."""
    import torch

    return (torch.logaddexp(good, torch.logsumexp(bad, dim=0)) - good).mean()


def _divergence(target: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """``KL(softmax target ‖ softmax logits)``."""
    from torch.nn import functional

    own, wanted = functional.log_softmax(logits, dim=0), functional.log_softmax(target, dim=0)
    return functional.kl_div(own, wanted, reduction="sum", log_target=True)


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
            for part in _parts(order, pairs, config.train_length):
                tokens = batch_to_device(self.model.preprocess([pairs[p] for p in part]), self.model.device)
                scored.append(self.model(tokens)["scores"].view(-1).float())
            place = torch.tensor(order, device=self.model.device).argsort()
            facts = torch.cat([torch.as_tensor(label) for label in labels]).to(self.model.device)
            return group_loss(
                torch.cat(scored)[place],
                [len(passages) for passages in lists],
                positives=[int(torch.as_tensor(label)[:, 0].sum()) for label in labels],
                prior=facts[:, 1].float(),
                teacher=facts[:, 2].float(),
            )

    return GroupLoss()


def _parts(order: Sequence[int], pairs: Sequence[tuple[str, str]], train_length: int) -> Iterator[list[int]]:
    """Cut pairs, longest first, into parts of about ``TOKENS_AT_ONCE`` padded tokens."""
    part: list[int] = []
    longest = 1
    for position in order:
        if not part:
            characters = len(pairs[position][0]) + len(pairs[position][1])
            longest = min(train_length, characters // _CHARACTERS_PER_TOKEN + 4)
        part.append(position)
        if (len(part) + 1) * longest > TOKENS_AT_ONCE:
            yield part
            part = []
    if part:
        yield part


GROUPS = Task(
    name="groups",
    read=read_groups,
    check=check_groups,
    describe=describe_groups,
    columns=group_columns,
    questions=lambda groups: (group.query for group in groups),
    loss=_loss,
    loss_name=f"localized contrastive estimation or a teacher's order + {PAIR_WEIGHT} · balanced binary cross-entropy",
    sampler=length_grouped_sampler,
    sample=lambda group: (group.query, group.positive, "1"),
)
"""Positives against negatives of the same query, as a ranking."""
