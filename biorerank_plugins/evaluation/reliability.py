"""How far probabilities can be trusted: calibration error, Brier skill, and a reliability plot."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from biorerank_plugins._common.plots import new_figure

BINS = 10


@dataclass(frozen=True, slots=True)
class Reliability:
    """What a set of probabilities is worth.

    :param n: how many there are.
    :param base_rate: share of relevant ones.
    :param ece: expected calibration error over bins of equal mass: the mean distance between what was said and what
        was so (Naeini et al. 2015, with bins of equal mass as Nguyen and O'Connor 2015 advise).
    :param brier: mean squared distance to the truth.
    :param brier_skill: 1 minus ``brier`` over that of always saying the base rate; 0 is no skill, 1 perfect.
    :param bins: (mean probability, share of relevant ones, number) of each bin.
    """

    n: int
    base_rate: float
    ece: float
    brier: float
    brier_skill: float
    bins: tuple[tuple[float, float, int], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the values as plain JSON types, rounded."""
        rounded = {name: round(getattr(self, name), 4) for name in ("base_rate", "ece", "brier", "brier_skill")}
        return {"n": self.n, **rounded, "bins": [[round(p, 4), round(share, 4), n] for p, share, n in self.bins]}


def reliability(probabilities: Sequence[float], relevant: Sequence[bool], bins: int = BINS) -> Reliability:
    """Compare probabilities with what was so.

    :param probabilities: in [0, 1].
    :param relevant: the truth.
    :param bins: number of bins of equal mass.
    :raises ValueError: if there is nothing to compare, or only one kind of truth.

    >>> round(reliability([0.1, 0.1, 0.9, 0.9], [False, False, True, True], bins=2).ece, 4)
    0.1
    """
    p, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(relevant, dtype=np.float64)
    if len(p) != len(truth) or not len(p) or truth.min() == truth.max():
        raise ValueError("Reliability needs probabilities of relevant passages and of others.")
    order = np.argsort(p, kind="stable")
    parts = [part for part in np.array_split(order, min(bins, len(p))) if len(part)]
    filled = tuple((float(p[part].mean()), float(truth[part].mean()), len(part)) for part in parts)
    ece = sum(n * abs(said - so) for said, so, n in filled) / len(p)
    brier, rate = float(np.mean((p - truth) ** 2)), float(truth.mean())
    return Reliability(len(p), rate, ece, brier, 1 - brier / (rate * (1 - rate)), filled)


def draw_reliability(curves: Mapping[str, Reliability], path: str | os.PathLike[str], *, title: str = "") -> None:
    """Draw what was said against what was so, one curve each; the format is what the file's name says.

    :raises MissingExtraError: if matplotlib is not installed.
    """
    figure, (axes,) = new_figure(5.2, 5.0)
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, label="perfect")
    for name, curve in curves.items():
        said, so, _ = zip(*curve.bins, strict=True)
        axes.plot(said, so, marker="o", markersize=4, label=f"{name} (ECE {curve.ece:.3f})")
    axes.set(xlabel="probability", ylabel="share of relevant passages", xlim=(0, 1), ylim=(0, 1), title=title)
    axes.set_aspect("equal")
    axes.legend(loc="upper left", frameon=False)
    figure.savefig(os.fspath(path), dpi=120)
