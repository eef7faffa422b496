"""A whole benchmark: load the model and the systems once, compare them on every mix, draw the curves."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biorerank_plugins.speed.compare import compare
from biorerank_plugins.speed.counting import Architecture
from biorerank_plugins.speed.machine import describe_machine
from biorerank_plugins.speed.models import SHAPES, folder_of, random_model
from biorerank_plugins.speed.options import Options
from biorerank_plugins.speed.results import Comparison
from biorerank_plugins.speed.roofline import Roofline, measure_roofline
from biorerank_plugins.speed.systems import BASELINE, SYSTEMS, Known, Setting, System, choose_systems, load_systems
from biorerank_plugins.speed.texts import Mix, Request, make_requests, read_source, tokenizer_of

if TYPE_CHECKING:
    from biorerank_plugins.speed.texts import Source

__all__ = ["Benchmark", "run_benchmark"]

_PROBED = 128  # passages on which a system tries its batch sizes
_CURVE_REQUESTS = 20
_CACHE = "BIORERANK_CACHE"  # where exported models are kept


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What was found.

    :param machine: on what.
    :param model: which model, its sizes, and where words came from.
    :param roofline: of the device, if it was measured.
    :param comparisons: one for each mix and number of candidates.
    :param not_possible: systems that could not be loaded, with the reason.
    :param curves: what the plots show, if they were asked for.
    """

    machine: dict[str, Any]
    model: dict[str, Any]
    roofline: Roofline | None
    comparisons: Sequence[Comparison]
    not_possible: dict[str, str]
    curves: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        measured = self.roofline
        return {
            "machine": self.machine,
            "model": self.model,
            "baseline": BASELINE,
            "roofline": None
            if measured is None
            else {
                "operations_per_second": measured.operations,
                "by": measured.by,
                "copied_bytes_per_second": measured.copied,
            },
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "not_possible": self.not_possible,
            "curves": self.curves,
        }


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
    :raises MissingExtraError: if plots are asked for and matplotlib is not installed.

    >>> run_benchmark(Options(systems=["ours"], rounds=3)).comparisons[0].systems["predict"].ratio  # doctest: +SKIP
    1.0
    """
    options.check(known)
    if options.plots is not None:
        from biorerank_plugins._common.plots import require_matplotlib

        require_matplotlib()
        options.plots.mkdir(parents=True, exist_ok=True)
    source = read_source(options.data)
    with (
        tempfile.TemporaryDirectory() as work,
        _threads(options.threads) as threads,
        _cache_in(Path(work) if options.shape is not None else None),
    ):
        return _run(options, known, source, Path(work), threads, note)


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


@contextmanager
def _cache_in(folder: Path | None) -> Iterator[None]:
    """Let files made of a model with random weights, hundreds of megabytes, go with it."""
    before = os.environ.get(_CACHE)
    try:
        if folder is not None:
            os.environ[_CACHE] = str(folder)
        yield
    finally:
        if before is not None:
            os.environ[_CACHE] = before
        elif folder is not None:
            del os.environ[_CACHE]


def _run(
    options: Options, known: Known, source: Source, work: Path, threads: int, note: Callable[[str], None]
) -> Benchmark:
    from biorerank_plugins.runtime.devices import resolve_device

    device = str(resolve_device(options.device))
    folder = folder_of(options.model, work) if options.shape is None else random_model(SHAPES[options.shape], work)
    tokenizer = tokenizer_of(folder)
    max_length = _limit(folder, options.max_length)

    def make(mix: Mix, count: int, candidates: int) -> list[Request]:
        return make_requests(source, mix, tokenizer, count=count, candidates=candidates, max_length=max_length)

    mixes = [Mix.parse(name) for name in options.mixes]
    probe = make(mixes[0], 1, min(_PROBED, max(options.candidates)))[0]
    setting = Setting(folder, device, threads, max_length, work, probe)
    architecture = Architecture.of(folder)
    roofline = None
    if options.with_roofline:
        note("Measuring the device …")
        roofline = measure_roofline(device, threads)
    systems, not_possible = load_systems(choose_systems(options.systems, known), setting, known=known, note=note)
    if BASELINE not in systems:
        raise RuntimeError(f"CrossEncoder.predict does not run here: {not_possible[BASELINE]}")
    try:
        comparisons = []
        for mix in mixes:
            for candidates in options.candidates:
                note(f"Mix {mix.name}, {candidates} candidates: {options.rounds} rounds of {len(systems)} systems …")
                comparisons.append(
                    compare(
                        systems,
                        make(mix, (options.rounds + 1) * options.concurrency, candidates),
                        mix=mix,
                        concurrency=options.concurrency,
                        architecture=architecture,
                        roofline=roofline,
                        on_round=lambda done: note(f"  round {done} of {options.rounds}"),
                    )
                )
        curves = {} if options.plots is None else _draw(options, setting, systems, make, mixes[0], note)
    finally:
        for system in systems.values():
            system.close()
    model = {
        "name": options.shape or folder.name,
        "random_weights": options.shape is not None,
        "layers": architecture and architecture.layers,
        "hidden": architecture and architecture.hidden,
        "max_length": max_length,
        "texts": source.name,
    }
    return Benchmark(describe_machine(device, threads), model, roofline, comparisons, not_possible, curves)


def _limit(folder: Path, wanted: int) -> int:
    """Return how many tokens all systems read of a pair: no more than the model takes."""
    from transformers import AutoConfig, AutoTokenizer

    from biorerank_plugins.scoring.choose_scorer import position_limit

    stated = AutoTokenizer.from_pretrained(folder, local_files_only=True).model_max_length
    positions = position_limit(AutoConfig.from_pretrained(folder, local_files_only=True))
    return min(limit for limit in (wanted, stated, positions) if limit is not None)


def _draw(
    options: Options,
    setting: Setting,
    systems: dict[str, System],
    make: Callable[[Mix, int, int], list[Request]],
    mix: Mix,
    note: Callable[[str], None],
) -> dict[str, Any]:
    from biorerank_plugins.speed.curves import latencies, throughputs
    from biorerank_plugins.speed.plots import draw_latencies, draw_throughputs

    assert options.plots is not None
    most = max(options.candidates)
    what = f"{options.shape or setting.folder.name}, mix {mix.name}, {_counted(setting.threads, 'thread')}"
    note("Measuring batch sizes …")
    by_batch = throughputs(setting, list(systems), make(mix, options.rounds + 1, most))
    draw_throughputs(by_batch, options.plots / "throughput.png", title=f"{what}, {most} candidates")
    note("Measuring latencies …")
    by_depth = latencies(systems, lambda n, depth: make(mix, n, depth), requests=_CURVE_REQUESTS, most=most)
    draw_latencies(by_depth, options.plots / "latency.png", title=what)
    return {"mix": mix.name, "throughput": by_batch.to_dict(), "latency": by_depth.to_dict()}


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
