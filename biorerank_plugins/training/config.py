"""Settings of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from biorerank_plugins._common.checks import finite_number, positive_number, whole_number


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
