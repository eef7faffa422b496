"""What a comparison found, as plain data and as rows of a table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["COLUMNS", "Comparison", "SystemResult", "rows"]

COLUMNS = ("mix", "candidates", "system", "dtype", "ms", "pairs/s", "ratio", "lowest–highest", "Δ score")
"""Headings of :func:`rows`; the first, second, third and fourth are words, the others numbers."""


@dataclass(frozen=True, slots=True)
class SystemResult:
    """The times of one system in one comparison.

    :param way: what was called, in words.
    :param dtype: precision of most of the arithmetic.
    :param seconds: of each round.
    :param ratios: to the baseline, of each round: 2 is twice as fast.
    :param pairs_per_second: at the median of the seconds.
    :param largest_difference: of a score (the sigmoid of the logit) from the baseline's, on the same pairs.
    """

    way: str
    dtype: str
    seconds: Sequence[float]
    ratios: Sequence[float]
    pairs_per_second: float
    largest_difference: float

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    @property
    def ratio(self) -> float:
        """Median of the ratios of the rounds."""
        return statistics.median(self.ratios)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        return {
            "way": self.way,
            "dtype": self.dtype,
            "median_ms": 1000 * self.median,
            "pairs_per_second": self.pairs_per_second,
            "ratio": self.ratio,
            "ratio_lowest": min(self.ratios),
            "ratio_highest": max(self.ratios),
            "ratios": list(self.ratios),
            "seconds": list(self.seconds),
            "largest_difference_of_score": self.largest_difference,
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """All systems on one mix.

    :param mix: its name.
    :param candidates: passages a request.
    :param concurrency: requests at once.
    :param rounds: how often every system was timed.
    :param lengths: tokens of all pairs, special tokens included, after the cut.
    :param systems: by name, the baseline first.
    :param not_possible: the others, with the reason.
    """

    mix: str
    candidates: int
    concurrency: int
    rounds: int
    lengths: Sequence[int]
    systems: Mapping[str, SystemResult]
    not_possible: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        quantiles = np.quantile(self.lengths, [0.05, 0.5, 0.95, 1.0])
        return {
            "mix": self.mix,
            "candidates": self.candidates,
            "concurrency": self.concurrency,
            "rounds": self.rounds,
            "tokens_a_pair": {
                "mean": float(np.mean(self.lengths)),
                **{name: float(value) for name, value in zip(("p5", "p50", "p95", "max"), quantiles, strict=True)},
            },
            "systems": {name: system.to_dict() for name, system in self.systems.items()},
            "not_possible": dict(self.not_possible),
        }


def rows(comparisons: Sequence[Comparison]) -> list[list[str]]:
    """Return the table of comparisons under :data:`COLUMNS`, the fastest system of each last."""
    return [
        [
            _mix(comparison),
            str(comparison.candidates),
            name,
            system.dtype,
            f"{1000 * system.median:.1f}",
            f"{system.pairs_per_second:,.0f}",
            f"{system.ratio:.2f}x",
            f"{min(system.ratios):.2f}–{max(system.ratios):.2f}",
            f"{system.largest_difference:.1g}",
        ]
        for comparison in comparisons
        for name, system in sorted(comparison.systems.items(), key=lambda item: item[1].ratio)
    ]


def _mix(comparison: Comparison) -> str:
    at_once = f", {comparison.concurrency} at once" if comparison.concurrency > 1 else ""
    return f"{comparison.mix}{at_once}"
