"""What ``biorerank bench`` measures, also with random weights, and as a share of what the device can do at most."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.speed.counting import Architecture
from benchmarks.speed.random_models import SHAPES, random_model
from benchmarks.speed.roofline import Roofline, measure_roofline
from biorerank_plugins.runtime.devices import resolve_device
from biorerank_plugins.speed.compare import Comparison
from biorerank_plugins.speed.run import Options, run_benchmark
from biorerank_plugins.speed.systems import SYSTEMS, Known, folder_of

__all__ = ["measure_part", "shaped", "with_shares"]


def measure_part(
    options: Options,
    *,
    shape: str | None = None,
    known: Known = SYSTEMS,
    with_roofline: bool = True,
    note: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Run a benchmark, and return it as plain JSON types.

    :param options: what to compare.
    :param shape: one of :data:`SHAPES`: random weights instead of the model of the options.
    :param known: the systems that there are, with the baseline.
    :param with_roofline: whether the device is measured too.
    :param note: is told what is going on.
    """
    with tempfile.TemporaryDirectory() as work, shaped(options, shape) as options:
        found = run_benchmark(options, known=known, note=note)
        sizes = Architecture.of(folder_of(options.model, Path(work)))
    document = found.to_dict()
    document["model"] |= {
        "random_weights": shape is not None,
        "layers": sizes and sizes.layers,
        "hidden": sizes and sizes.hidden,
    }
    roofline = None
    if with_roofline:
        note("Measuring the device …")
        roofline = measure_roofline(str(resolve_device(options.device)), found.machine["threads"])
    document["roofline"] = roofline and roofline.to_dict()
    document["comparisons"] = [with_shares(comparison, sizes, roofline) for comparison in found.comparisons]
    return document


@contextmanager
def shaped(options: Options, shape: str | None) -> Iterator[Options]:
    """Make a model with random weights.

    :param options: what to compare.
    :param shape: one of :data:`SHAPES`; ``None`` leaves the options as they are.
    """
    if shape is None:
        yield options
        return
    with tempfile.TemporaryDirectory() as work:
        yield replace(options, model=str(random_model(SHAPES[shape], Path(work) / shape)))


def with_shares(found: Comparison, sizes: Architecture | None, roofline: Roofline | None) -> dict[str, Any]:
    """Return a comparison as plain JSON types, with the operations of a round, and the share of the best rate.

    :param found: the comparison.
    :param sizes: of the model, for counting operations.
    :param roofline: of the device.
    """
    document = found.to_dict()
    operations = _of_rounds(found, sizes) if sizes else []
    document["operations_a_round"] = statistics.fmean(operations) if operations else None
    for name, system in found.systems.items():
        shares = [
            roofline.share(done, taken, system.dtype)
            for done, taken in zip(operations, system.seconds, strict=bool(operations))
            if roofline is not None
        ]
        known = [share for share in shares if share is not None]
        document["systems"][name]["share_of_roofline"] = statistics.median(known) if known else None
    return document


def _of_rounds(found: Comparison, sizes: Architecture) -> Sequence[float]:
    pairs = found.candidates * found.concurrency
    return [sizes.flops(found.lengths[start : start + pairs]) for start in range(0, len(found.lengths), pairs)]
