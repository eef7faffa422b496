"""What a cross-encoder is trained on and its loss, the settings of a run, and all with a base model: a recipe."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from biorerank_plugins._common.checks import finite_number, positive_number, whole_number
from biorerank_plugins.training.rows import check_rows, describe, read_rows

if TYPE_CHECKING:
    import torch
    from sentence_transformers import CrossEncoder


def length_grouped_sampler(dataset: Any, batch_size: int, drop_last: bool, **options: Any) -> Any:
    """Return a batch sampler that puts rows (``question``, ``passage`` or a list of them) of similar length together.

    On a CPU, padding is paid for in full. Rows are shuffled, sorted by length (of the longest in a list) within groups
    of 50 batches, and the batches are shuffled again. The options are what else the trainer passes.
    """
    import torch

    longest = [len(given) if isinstance(given, str) else max(map(len, given)) for given in dataset["passage"]]
    lengths = torch.tensor([len(q) + n for q, n in zip(dataset["question"], longest, strict=True)])

    def batches_of(order: torch.Tensor) -> list[list[int]]:
        batches: list[list[int]] = []
        for group in torch.split(order, 50 * batch_size):
            by_length = group[lengths[group].argsort(descending=True)]
            batches += [batch.tolist() for batch in torch.split(by_length, batch_size)]
        return [batch for batch in batches if len(batch) == batch_size] if drop_last else batches

    return shuffled_twice(dataset, batch_size, drop_last, options, len(lengths), batches_of)


def shuffled_twice(
    dataset: Any,
    batch_size: int,
    drop_last: bool,
    options: Mapping[str, Any],
    n_rows: int,
    batches_of: Callable[[torch.Tensor], list[list[int]]],
) -> Any:
    """Return a batch sampler of the trainer: shuffled rows, cut by ``batches_of``, then the batches shuffled again."""
    import torch
    from sentence_transformers.base.sampler import DefaultBatchSampler

    seed = int(options.get("seed") or 0)

    class ShuffledTwice(DefaultBatchSampler):
        def __iter__(self) -> Iterator[list[int]]:
            generator = torch.Generator().manual_seed(seed + self.epoch)
            batches = batches_of(torch.randperm(n_rows, generator=generator))
            for position in torch.randperm(len(batches), generator=generator).tolist():
                yield batches[position]

    return ShuffledTwice(
        torch.utils.data.SequentialSampler(dataset),
        batch_size=batch_size,
        drop_last=drop_last,
        valid_label_columns=options.get("valid_label_columns"),
        generator=options.get("generator"),
        seed=seed,
    )


@dataclass(frozen=True, slots=True)
class Task:
    """A form of training rows and its loss; recipes name one."""

    name: str  # says in cards and checkpoints what the rows are
    read: Callable[[Any], list[Any]]  # path ► rows; names file and line of what is none
    check: Callable[[Sequence[Any]], None]  # refuses rows that nothing can be learned from with a ValueError
    describe: Callable[[Sequence[Any]], dict[str, Any]]  # rows ► statistics for the card
    columns: Callable[[Sequence[Any]], Mapping[str, list[Any]]]  # of the data set, labels last, as the loss gets them
    questions: Callable[[Sequence[Any]], Iterable[str]]  # of the rows; must not be among those of a dev set
    loss: Callable[[CrossEncoder, Any], torch.nn.Module]  # from model and settings
    loss_name: str  # in the card
    sampler: Callable[..., Any]  # batches of rows of similar length, as the trainer makes batch samplers
    sample: Callable[[Any], tuple[str, str, str]]  # a row ► its cells in the card's table of samples


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


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Settings of one training run; saved as JSON beside the weights.

    :param epochs: passes over the rows.
    :param batch_size: rows a step.
    :param learning_rate: peak learning rate; linear decay after the warm-up.
    :param warmup_ratio: share of the steps in which the learning rate rises.
    :param weight_decay: of AdamW; not for biases and layer norms.
    :param dropout: in all layers; one epoch does without, and on a CPU it costs up to two fifths of the time. ``None``
        keeps what the base model's configuration says.
    :param train_length: tokens a pair while training; longer passages are cut.
    :param max_length: tokens a pair that the saved model takes.
    :param bf16: autocast to bf16, only where the device multiplies it natively.
    :param seed: of the head's initial weights and of the order of the rows.
    :param save_steps: steps between two checkpoints; a run that was stopped goes on from the last one.
    :param warmup_steps: a fixed number of steps instead of ``warmup_ratio``; where it exceeds the steps there are, the
        learning rate never reaches its peak.
    :param max_grad_norm: gradients are clipped to this norm.
    :param log_steps: steps between two entries of the log, each the mean loss since the entry before.
    :param length_grouped: batches of rows of similar length, instead of random ones.
    :param runs: times that all of this is done: each run starts from the weights of the one before, with a fresh
        optimizer and schedule.
    :param dev_steps: steps between two evaluations of a dev set, if there is one.
    """

    epochs: float = 1.0
    batch_size: int = 32
    learning_rate: float = 1e-4
    warmup_ratio: float = 0.06
    weight_decay: float = 0.01
    dropout: float | None = 0.0
    train_length: int = 256
    max_length: int = 512
    bf16: bool = True
    seed: int = 42
    save_steps: int = 500
    warmup_steps: int | None = None
    max_grad_norm: float = 1.0
    log_steps: int = 100
    length_grouped: bool = True
    runs: int = 1
    dev_steps: int = 500

    def __post_init__(self) -> None:
        for name in ("epochs", "learning_rate", "max_grad_norm"):
            positive_number(name, getattr(self, name))
        for name in ("batch_size", "train_length", "max_length", "save_steps", "log_steps", "runs", "dev_steps"):
            whole_number(name, getattr(self, name))
        for name in ("warmup_ratio", "dropout"):
            if getattr(self, name) is not None:
                finite_number(name, getattr(self, name), low=0.0, high=1.0)
        finite_number("weight_decay", self.weight_decay, low=0.0)
        whole_number("seed", self.seed, least=0)
        if self.warmup_steps is not None:
            whole_number("warmup_steps", self.warmup_steps, least=0)

    def warmup(self, n_rows: int) -> int:
        """Return in how many steps the learning rate rises."""
        if self.warmup_steps is not None:
            return self.warmup_steps
        return math.ceil(self.warmup_ratio * self.epochs * n_rows / self.batch_size)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is made.

    :param name: what users call it.
    :param base: name of an embedded model, or hub name of the weights to start from.
    :param summary: one line for help and cards.
    :param config: settings; those that an optimizer names are replaced.
    :param task: what the rows are, and which loss they have.
    :param optimizers: name ► settings; the first is the default. Empty where there is nothing to choose.
    :param license: of the base, for the card.
    :param reference: (epoch, step, loss) that somebody else's log of this recipe has, for the plot.
    """

    name: str
    base: str
    summary: str
    config: TrainConfig
    task: Task = PAIRS
    optimizers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    license: str = "apache-2.0"
    reference: Sequence[tuple[float, int, float]] = ()

    def settings(self, optimizer: str | None, overrides: Mapping[str, Any]) -> TrainConfig:
        """Return the settings of a run.

        :param optimizer: one of ``optimizers``; ``None`` for the default.
        :param overrides: settings that the user chose, by their names in :class:`TrainConfig`.
        :raises ValueError: if there is no such optimizer, or a value is impossible.
        """
        if optimizer is not None and optimizer not in self.optimizers:
            known = ", ".join(self.optimizers) or "none"
            raise ValueError(f"The recipe {self.name} has no optimizer {optimizer!r}; it has: {known}.")
        name = optimizer or next(iter(self.optimizers), None)
        chosen = dict(self.optimizers[name]) if name else {}
        if overrides.get("warmup_ratio") is not None and overrides.get("warmup_steps") is None:
            chosen["warmup_steps"] = None  # a share was asked for instead of the recipe's number of steps
        return replace(self.config, **{**chosen, **overrides})
