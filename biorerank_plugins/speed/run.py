"""A whole benchmark: load the model and the systems once, compare them on every mix."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biorerank_plugins._common.checks import whole_number
from biorerank_plugins.speed.compare import Comparison, compare
from biorerank_plugins.speed.machine import describe_machine
from biorerank_plugins.speed.systems import (
    BASELINE,
    SYSTEMS,
    Known,
    Setting,
    System,
    choose_systems,
    folder_of,
    load_systems,
    token_limit,
    tokenizer_of,
)
from biorerank_plugins.speed.texts import Mix, Request, make_requests, read_source

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from biorerank_plugins.speed.texts import Source


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
        whole_number("max_length", self.max_length, least=16)
        whole_number("rounds", self.rounds)
        whole_number("concurrency", self.concurrency)
        if self.threads is not None:
            whole_number("threads", self.threads)
        for candidates in self.candidates:
            whole_number("candidates", candidates)


_PROBED = 128  # passages on which a system tries its batch sizes


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What was found.

    :param machine: on what.
    :param model: which model, and where words came from.
    :param comparisons: one for each mix and number of candidates.
    :param not_possible: systems that could not be loaded, with the reason.
    """

    machine: dict[str, Any]
    model: dict[str, Any]
    comparisons: Sequence[Comparison]
    not_possible: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        return {
            "machine": self.machine,
            "model": self.model,
            "baseline": BASELINE,
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "not_possible": self.not_possible,
        }


@dataclass(frozen=True, slots=True)
class Loaded:
    """Systems that are ready to be timed, by name, with the baseline; for the others the reason why not."""

    setting: Setting
    systems: Mapping[str, System]
    not_possible: dict[str, str]
    source: Source
    tokenizer: Tokenizer

    def requests(self, mix: Mix, count: int, candidates: int) -> list[Request]:
        """Make so many requests, each of so many passages.

        :raises ReaderError: if the source does not have so many different passages.
        """
        limit = self.setting.max_length
        return make_requests(self.source, mix, self.tokenizer, count=count, candidates=candidates, max_length=limit)

    def compare(self, mix: Mix, candidates: int, options: Options, note: Callable[[str], None]) -> Comparison:
        """Time all systems on a mix."""
        note(f"Mix {mix.name}, {candidates} candidates: {options.rounds} rounds of {len(self.systems)} systems …")
        return compare(
            self.systems,
            self.requests(mix, (options.rounds + 1) * options.concurrency, candidates),
            mix=mix,
            concurrency=options.concurrency,
            on_round=lambda done: note(f"  round {done} of {options.rounds}"),
        )


def run_benchmark(
    options: Options, *, known: Known = SYSTEMS, note: Callable[[str], None] = lambda _: None
) -> Benchmark:
    """Run a benchmark.

    :param options: what to compare.
    :param known: the systems that there are, with the baseline.
    :param note: is told what is going on.
    :raises ValueError: if an option is impossible.
    :raises ModelError: if there is no such model.
    :raises ReaderError: if the data cannot be read.

    >>> run_benchmark(Options(systems=["ours"], rounds=3)).comparisons[0].systems["predict"].ratio  # doctest: +SKIP
    1.0
    """
    with loaded(options, known=known, note=note) as ready:
        setting = ready.setting
        comparisons = [
            ready.compare(Mix.parse(mix), candidates, options, note)
            for mix in options.mixes
            for candidates in options.candidates
        ]
        model = {"name": setting.folder.name, "max_length": setting.max_length, "texts": ready.source.name}
        machine = describe_machine(setting.device, setting.threads)
    return Benchmark(machine, model, comparisons, ready.not_possible)


@contextmanager
def loaded(
    options: Options, *, known: Known = SYSTEMS, note: Callable[[str], None] = lambda _: None
) -> Iterator[Loaded]:
    """Load systems, and give back what they hold afterwards.

    The parameters and errors are those of :func:`run_benchmark`.

    :raises RuntimeError: if the baseline does not run.
    """
    from biorerank_plugins.runtime.devices import resolve_device

    options.check(known)
    source = read_source(options.data)
    with tempfile.TemporaryDirectory() as work, _threads(options.threads) as threads:
        device = str(resolve_device(options.device))
        folder = folder_of(options.model, Path(work))
        tokenizer, limit = tokenizer_of(folder), token_limit(folder, options.max_length)
        most = min(_PROBED, max(options.candidates))
        [probe] = make_requests(
            source, Mix.parse(options.mixes[0]), tokenizer, count=1, candidates=most, max_length=limit
        )
        setting = Setting(folder, device, threads, limit, Path(work), probe)
        systems, not_possible = load_systems(choose_systems(options.systems, known), setting, known=known, note=note)
        try:
            if BASELINE not in systems:
                raise RuntimeError(f"CrossEncoder.predict does not run here: {not_possible[BASELINE]}")
            yield Loaded(setting, systems, not_possible, source, tokenizer)
        finally:
            for system in systems.values():
                system.close()


@contextmanager
def _threads(wanted: int | None) -> Iterator[int]:
    import torch

    before = torch.get_num_threads()
    try:
        if wanted is not None:
            torch.set_num_threads(wanted)
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
