"""All systems on the same pairs, in turns; what a comparison found, as plain data and as rows of a table."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from biorerank_plugins.speed.rounds import Prepared, measure, ratios, reason_of
from biorerank_plugins.speed.systems import BASELINE, System

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biorerank_plugins.speed.texts import Mix, Request

COLUMNS = ("mix", "candidates", "system", "dtype", "ms", "pairs/s", "ratio", "lowest–highest", "Δ score")
"""Headings of :func:`rows`."""


@dataclass(frozen=True, slots=True)
class SystemResult:
    """The times of one system in one comparison; way and dtype are its own."""

    way: str
    dtype: str
    seconds: Sequence[float]  # of each round
    ratios: Sequence[float]  # to the baseline, of each round: 2 is twice as fast
    pairs_per_second: float  # at the median of the seconds
    largest_difference: float  # of a score (the sigmoid of the logit) from the baseline's, on the same pairs

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
    """All systems on one mix."""

    mix: str
    candidates: int  # passages a request
    concurrency: int  # requests at once
    rounds: int
    lengths: Sequence[int]  # tokens of all pairs, special tokens included, after the cut
    systems: Mapping[str, SystemResult]  # by name, the baseline first
    not_possible: Mapping[str, str]  # the others, with the reason

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
            comparison.mix + (f", {comparison.concurrency} at once" if comparison.concurrency > 1 else ""),
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


def compare(
    systems: Mapping[str, System],
    requests: Sequence[Request],
    *,
    mix: Mix,
    concurrency: int = 1,
    clock: Callable[[], float] = time.perf_counter,
    on_round: Callable[[int], None] | None = None,
) -> Comparison:
    """Time systems on requests, each request once: the first ones warm up, and show that scores agree.

    :param requests: ``concurrency`` for warming up and as many for every round, all of the same number of passages.
    :param concurrency: requests at once, each from its own thread.
    :param on_round: called after each round with the number of rounds done.
    :raises ValueError: if the baseline is missing, or the requests are not enough for a round.
    :raises RuntimeError: if the baseline does not run.
    """
    if BASELINE not in systems:
        raise ValueError(f"The system {BASELINE!r} is missing: the others are compared with it.")
    rounds = len(requests) // concurrency - 1
    differences, failed = _warm_up(systems, requests[:concurrency])
    groups = [requests[start : start + concurrency] for start in range(concurrency, len(requests), concurrency)]
    running = {name: prepared(system, groups) for name, system in systems.items() if name in differences}
    times = measure(running, rounds, clock=clock, on_round=on_round)
    failed |= times.failed
    if BASELINE in failed:
        raise RuntimeError(f"{systems[BASELINE].way} does not run: {failed[BASELINE]}")
    return Comparison(
        mix=mix.name,
        candidates=len(requests[0].texts),
        concurrency=concurrency,
        rounds=rounds,
        lengths=[length for group in groups for request in group for length in request.lengths],
        systems={
            name: SystemResult(
                way=systems[name].way,
                dtype=systems[name].dtype,
                seconds=seconds,
                ratios=ratios(times.seconds[BASELINE], seconds),
                pairs_per_second=concurrency * len(requests[0].texts) / statistics.median(seconds),
                largest_difference=differences[name],
            )
            for name, seconds in times.seconds.items()
        },
        not_possible=failed,
    )


def prepared(system: System, groups: Sequence[Sequence[Request]]) -> Prepared:
    """Return what is timed: the calls for the requests of a round, at once if there are several."""
    turn: AbstractContextManager[Any] = nullcontext() if system.is_shared else threading.Lock()

    def call(given: Any) -> Any:
        with turn:
            return system.call(given)

    def of_round(number: int) -> Callable[[], object]:
        given = [system.prepare(request) for request in groups[number]]
        if len(given) == 1:
            return lambda: system.call(given[0])

        def at_once() -> list[Any]:
            with ThreadPoolExecutor(len(given)) as pool:
                return list(pool.map(call, given))

        return at_once

    return of_round


def scores_of(system: System, request: Request) -> NDArray[np.floating[Any]]:
    """Return the scores of a request's passages, in its order, between 0 and 1."""
    values = np.asarray(system.values(system.call(system.prepare(request))), dtype=np.float64)
    return 1 / (1 + np.exp(-values)) if system.are_logits else values


def _warm_up(systems: Mapping[str, System], requests: Sequence[Request]) -> tuple[dict[str, float], dict[str, str]]:
    """Return the largest difference of each system's scores from the baseline's, and why the others do not run."""
    expected = [scores_of(systems[BASELINE], request) for request in requests]
    differences: dict[str, float] = {}
    failed: dict[str, str] = {}
    for name, system in systems.items():
        try:
            found = [scores_of(system, request) for request in requests]
        except Exception as error:  # whatever a library raises: the others go on
            failed[name] = reason_of(error)
            continue
        differences[name] = max(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True))
    return differences, failed
