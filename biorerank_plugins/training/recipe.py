"""One recipe: a base model, settings and a task under one name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from biorerank_plugins.training.config import TrainConfig
from biorerank_plugins.training.tasks import PAIRS, Task

__all__ = ["Recipe"]


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
