"""Times in turns: every system once a round, forwards and backwards, over the same work."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from biorerank_plugins.errors import BioRerankError


class NotPossibleError(Exception):
    """A system cannot run here; the message says why."""


Prepared = Callable[[int], Callable[[], object]]
"""From the number of a round to the call that is timed; what happens before the call is made is not."""


@dataclass(slots=True)
class Times:
    """For each system the seconds of each round; for those that raised, why they gave no times."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def measure(
    systems: Mapping[str, Prepared],
    rounds: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
    on_round: Callable[[int], None] | None = None,
) -> Times:
    """Time each system once a round: in the order given in even rounds, in the reverse order in odd ones.

    A system that raises is left out from then on, and its times are dropped.

    :param on_round: called after each round with the number of rounds done.
    :raises ValueError: if there is no round to measure.

    >>> times = measure({"a": lambda number: list, "b": lambda number: dict}, rounds=3)
    >>> {name: len(seconds) for name, seconds in times.seconds.items()}
    {'a': 3, 'b': 3}
    """
    if rounds < 1:
        raise ValueError(f"rounds={rounds}: at least one round is needed.")
    times = Times({name: [] for name in systems})
    gc.collect()
    gc.freeze()  # the libraries' own objects, of which there are many, are not looked at before each call
    try:
        for number in range(rounds):
            for name in list(times.seconds)[:: -1 if number % 2 else 1]:
                _measure_one(name, systems[name], number, times, clock)
            if on_round is not None:
                on_round(number + 1)
    finally:
        gc.unfreeze()
    return times


def _measure_one(name: str, system: Prepared, number: int, times: Times, clock: Callable[[], float]) -> None:
    try:
        call = system(number)
        gc.collect()  # nobody pays for what another system left behind
        started = clock()
        call()
        times.seconds[name].append(clock() - started)
    except Exception as error:  # whatever a library raises: the others go on
        times.failed[name] = reason_of(error)
        del times.seconds[name]


def ratios(baseline: Sequence[float], seconds: Sequence[float]) -> list[float]:
    """Return how many times faster than the baseline a system was, round by round."""
    return [base / own for base, own in zip(baseline, seconds, strict=True)]


def fastest(systems: Mapping[str, Prepared], rounds: int, *, clock: Callable[[], float] = time.perf_counter) -> Times:
    """Time systems in turns, and return them from the fastest to the slowest by median."""
    times = measure(systems, rounds, clock=clock)
    order = sorted(times.seconds, key=lambda name: statistics.median(times.seconds[name]))
    return Times({name: times.seconds[name] for name in order}, times.failed)


def reason_of(error: Exception) -> str:
    """Say in one line why something did not work."""
    lines = str(error).strip().splitlines()
    said = lines[0] if lines else "no message"
    # Our own errors explain themselves; of a foreign one the type is half of the message.
    return said if lines and _is_ours(error) else f"{type(error).__name__}: {said}"


def _is_ours(error: Exception) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    raised_in = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", ""))
    is_explained = isinstance(error, (ValueError, TypeError, BioRerankError))
    return isinstance(error, NotPossibleError) or (is_explained and raised_in.startswith("biorerank_plugins"))
