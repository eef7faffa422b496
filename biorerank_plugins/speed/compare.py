"""All systems on the same pairs, in turns."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from biorerank_plugins.speed.results import Comparison, SystemResult
from biorerank_plugins.speed.rounds import Prepared, measure, ratios, reason_of
from biorerank_plugins.speed.systems import BASELINE, System

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biorerank_plugins.speed.texts import Mix, Request

__all__ = ["compare", "prepared", "scores_of"]


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

    :param systems: by name, with the baseline.
    :param requests: ``concurrency`` for warming up and as many for every round, all of the same number of passages.
    :param mix: of the requests.
    :param concurrency: requests at once, each from its own thread.
    :param clock: seconds.
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
    """Return what is timed: the calls for the requests of a round, at once if there are several.

    :param system: the system.
    :param groups: requests of each round.
    """
    lock = threading.Lock()

    def in_turn(given: Any) -> Any:
        with lock:
            return system.call(given)

    call = system.call if system.is_shared else in_turn

    def of_round(number: int) -> Callable[[], object]:
        given = [system.prepare(request) for request in groups[number]]
        if len(given) == 1:
            return lambda: system.call(given[0])
        return lambda: _at_once(call, given)

    return of_round


def _at_once(call: Callable[[Any], Any], given: Sequence[Any]) -> list[Any]:
    with ThreadPoolExecutor(len(given)) as pool:
        return list(pool.map(call, given))


def scores_of(system: System, request: Request) -> NDArray[np.floating[Any]]:
    """Return the scores of a request's passages, in its order, between 0 and 1.

    :param system: the system.
    :param request: the request.
    """
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
