"""What a cross-encoder is trained on: the form of a row, and the loss that goes with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from biorerank_plugins.training.rows import check_rows, describe, read_rows
from biorerank_plugins.training.sampler import length_grouped_sampler

if TYPE_CHECKING:
    import torch
    from sentence_transformers import CrossEncoder

__all__ = ["PAIRS", "Task"]


@dataclass(frozen=True, slots=True)
class Task:
    """A form of training rows and its loss; recipes name one.

    :param name: says in cards and checkpoints what the rows are.
    :param read: ``path`` ► rows; names file and line of what is none.
    :param check: refuses rows that nothing can be learned from with a ``ValueError``.
    :param describe: rows ► statistics for the card.
    :param columns: rows ► columns of the data set, labels last; the loss gets them in this order.
    :param questions: rows ► their questions, which must not be among those of a dev set.
    :param loss: model and settings ► the loss as a module.
    :param loss_name: how the card calls it.
    :param sampler: batches of rows of similar length, as the trainer makes batch samplers.
    :param sample: a row ► its cells in the card's table of samples.
    """

    name: str
    read: Callable[[Any], list[Any]]
    check: Callable[[Sequence[Any]], None]
    describe: Callable[[Sequence[Any]], dict[str, Any]]
    columns: Callable[[Sequence[Any]], Mapping[str, list[Any]]]
    questions: Callable[[Sequence[Any]], Iterable[str]]
    loss: Callable[[CrossEncoder, Any], torch.nn.Module]
    loss_name: str
    sampler: Callable[..., Any]
    sample: Callable[[Any], tuple[str, str, str]]


def _binary_cross_entropy(model: CrossEncoder, config: Any) -> torch.nn.Module:
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

    return BinaryCrossEntropyLoss(model)


PAIRS = Task(
    name="pairs",
    read=read_rows,
    check=check_rows,
    describe=describe,
    columns=lambda rows: {
        "question": [row.question for row in rows],
        "passage": [row.passage for row in rows],
        "label": [float(row.label) for row in rows],
    },
    questions=lambda rows: (row.question for row in rows),
    loss=_binary_cross_entropy,
    loss_name="BinaryCrossEntropyLoss (activation Identity, no pos_weight)",
    sampler=length_grouped_sampler,
    sample=lambda row: (row.question, row.passage, f"{row.label:g}"),
)
"""(question, passage, label) rows with binary cross-entropy."""
