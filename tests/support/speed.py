"""Systems that cost what they are told to, and a setting over a tiny model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from biorerank_plugins.speed.systems import Setting, System
from biorerank_plugins.speed.texts import Request

QUERY = "does p53 suppress tumours?"
TEXTS = (
    "p53 suppresses tumours.",
    "aspirin inhibits platelets in patients with heart failure",
    "metformin lowers glucose",
    "a trial of the dose of insulin for diabetes, the second of the study, with a third of the patients",
    "brca1 mutation raises cancer risk",
)


class Clock:
    """A clock that goes on only when a system works."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def request(texts: Sequence[str] = TEXTS) -> Request:
    return Request(QUERY, tuple(texts), tuple(10 for _ in texts))


def working(clock: Clock, seconds: Callable[[Request], float], score: float = 0.5, **options: object) -> System:
    """A system that takes so many seconds for a request, and gives every passage the same score."""

    def call(given: Request) -> Request:
        clock.now += seconds(given)
        return given

    return System(
        way="works",
        dtype="float32",
        prepare=lambda given: given,
        call=call,
        values=lambda given: np.full(len(given.texts), score),
        **options,  # type: ignore[arg-type]
    )


def setting_of(folder: Path, work: Path) -> Setting:
    return Setting(folder, "cpu", 1, 128, work, request())
