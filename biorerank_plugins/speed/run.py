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
    """What to compare."""

    model: str | None = None  # an embedded one (None: the default), a folder, or a name on the hub
    mixes: Sequence[str] = ("bioasq",)  # or tokens a pair
    candidates: Sequence[int] = (100,)  # passages a request
    systems: Sequence[str] = ()  # names or their beginnings; all if empty
    rounds: int = 5
    concurrency: int = 1  # requests at once
    threads: int | None = None  # of each system on the CPU; None for torch's default
    device: str | None = None
    max_length: int = 512  # tokens a pair
    data: Path | None = None  # folder of the BioASQ data; None for the demo collection

    def check(self, known: Known = SYSTEMS) -> None:
        """Raise ``ValueError`` before any work is done, if something is not possible; names the option."""
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
    """What was found."""

    machine: dict[str, Any]
    model: dict[str, Any]  # which one, and where words came from
    comparisons: Sequence[Comparison]  # one for each mix and number of candidates
    not_possible: dict[str, str]  # systems that could not be loaded, with the reason

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
        """Make so many requests, each of so many passages."""
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
    """Load systems, and give back what they hold afterwards; parameters and errors are :func:`run_benchmark`'s."""
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
