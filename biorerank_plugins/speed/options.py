"""What a benchmark compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from biorerank_plugins._common.checks import whole_number
from biorerank_plugins.speed.systems import SYSTEMS, Known, choose_systems
from biorerank_plugins.speed.texts import Mix

__all__ = ["Options"]


@dataclass(frozen=True, slots=True)
class Options:
    """What to compare.

    :param model: name of an embedded model (``None``: the default one), a folder, or a name on the hub.
    :param mixes: ``"bioasq"`` or tokens a pair.
    :param candidates: passages a request.
    :param systems: names of systems or their beginnings; all if empty.
    :param rounds: how often every system is timed.
    :param concurrency: requests at once.
    :param threads: threads of each system on the CPU; ``None`` for torch's default.
    :param device: name of a torch device; ``None`` chooses.
    :param max_length: tokens a pair.
    :param data: folder of the BioASQ data; ``None`` for the demo collection.
    """

    model: str | None = None
    mixes: Sequence[str] = ("bioasq",)
    candidates: Sequence[int] = (100,)
    systems: Sequence[str] = ()
    rounds: int = 5
    concurrency: int = 1
    threads: int | None = None
    device: str | None = None
    max_length: int = 512
    data: Path | None = None

    def check(self, known: Known = SYSTEMS) -> None:
        """Find out before any work is done what is not possible.

        :param known: the systems to choose from.
        :raises ValueError: names the option.
        """
        for mix in self.mixes:
            Mix.parse(mix)
        choose_systems(self.systems, known)
        for name in ("rounds", "concurrency", "max_length"):
            whole_number(name, getattr(self, name), least=16 if name == "max_length" else 1)
        for candidates in self.candidates:
            whole_number("candidates", candidates)
        if self.threads is not None:
            whole_number("threads", self.threads)
