"""How speed depends on the batch size, and latency on the number of candidates: two plots and their figures.

    python -m benchmarks.speed.curves --out plots --system ours

``--out`` is a folder; the plots need matplotlib (extra ``eval``). It takes minutes.
"""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.common import parser_of
from biorerank_plugins.speed.compare import prepared
from biorerank_plugins.speed.rerankers import baseline_model, by_batch_size, ours
from biorerank_plugins.speed.rounds import Prepared, measure, reason_of
from biorerank_plugins.speed.run import Options, loaded
from biorerank_plugins.speed.systems import SYSTEMS, Setting, System
from biorerank_plugins.speed.texts import Mix

if TYPE_CHECKING:
    from biorerank_plugins.speed.texts import Request

logger = logging.getLogger(__name__)

__all__ = ["Latencies", "Throughputs", "latencies", "throughputs"]

BATCH_SIZES = (4, 8, 16, 32, 64, 128, 256)
BATCH_TOKENS = {"cpu": (256, 512, 1024, 2048, 4096, 8192, 16384), "cuda": (2048, 8192, 16384, 32768, 65536)}
REQUESTS = 20  # timed for each number of candidates
DEPTHS = (10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True, slots=True)
class Throughputs:
    """Pairs a second by batch size.

    :param candidates: passages a request.
    :param by_pairs: of the baseline, by pairs a batch.
    :param by_tokens: of each of our systems, by ``max_batch_tokens``.
    """

    candidates: int
    by_pairs: Mapping[int, float]
    by_tokens: Mapping[str, Mapping[int, float]]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        return {
            "candidates": self.candidates,
            "baseline_by_pairs_a_batch": {str(size): value for size, value in self.by_pairs.items()},
            "ours_by_tokens_a_batch": {
                name: {str(size): value for size, value in found.items()} for name, found in self.by_tokens.items()
            },
        }


@dataclass(frozen=True, slots=True)
class Latencies:
    """Seconds that one request takes, by number of candidates.

    :param requests: how many were timed for each number.
    :param median: of each system, by number of candidates, seconds.
    :param p95: so many seconds at most take 95 of 100 requests.
    """

    requests: int
    median: Mapping[str, Mapping[int, float]]
    p95: Mapping[str, Mapping[int, float]]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON types, in milliseconds."""

        def in_ms(found: Mapping[str, Mapping[int, float]]) -> dict[str, dict[str, float]]:
            return {name: {str(n): 1000 * s for n, s in curve.items()} for name, curve in found.items()}

        return {"requests": self.requests, "p50_ms": in_ms(self.median), "p95_ms": in_ms(self.p95)}


def throughputs(setting: Setting, names: Sequence[str], requests: Sequence[Request]) -> Throughputs:
    """Time batch sizes in turns, on the same requests.

    :param setting: what all systems share.
    :param names: systems that are possible here; ours among them are measured.
    :param requests: one a round, and a first one to warm up.
    """
    model = baseline_model(setting)
    by_pairs = _rates({size: by_batch_size(model, "float32", size, "fp32") for size in BATCH_SIZES}, requests)
    by_tokens = {}
    for name in [name for name in names if name.startswith("ours-")]:
        by_tokens[name] = _rates(_by_budget(name, setting), requests)
    return Throughputs(len(requests[0].texts), by_pairs, by_tokens)


def _by_budget(name: str, setting: Setting) -> dict[int, System]:
    budgets = BATCH_TOKENS.get(setting.device.partition(":")[0], BATCH_TOKENS["cpu"])
    return {budget: ours(setting, **SYSTEMS[name][1], max_batch_tokens=budget) for budget in budgets}


def _rates(systems: Mapping[int, System], requests: Sequence[Request]) -> dict[int, float]:
    """Return the pairs a second of each system that runs, by its batch size; the systems are closed."""
    named = {str(size): system for size, system in systems.items()}
    try:
        times = measure(_warm(named, requests[0], [[request] for request in requests[1:]]), len(requests) - 1)
    finally:
        for system in systems.values():
            system.close()
    n = len(requests[0].texts)
    return {int(size): n / statistics.median(seconds) for size, seconds in times.seconds.items()}


def _warm(systems: Mapping[str, System], first: Request, groups: Sequence[Sequence[Request]]) -> dict[str, Prepared]:
    running = {}
    for name, system in systems.items():
        try:
            system.call(system.prepare(first))
        except Exception as error:  # whatever a library raises: the others go on
            logger.info("%s gives no point of the curve: %s", system.way, reason_of(error))
            continue
        running[name] = prepared(system, groups)
    return running


def latencies(
    systems: Mapping[str, System],
    make: Callable[[int, int], Sequence[Request]],
    *,
    requests: int,
    most: int,
) -> Latencies:
    """Time single requests of growing numbers of candidates.

    :param systems: by name.
    :param make: from the number of requests and of candidates to requests.
    :param requests: how many are timed for each number of candidates.
    :param most: candidates.
    """
    median: dict[str, dict[int, float]] = {name: {} for name in systems}
    p95: dict[str, dict[int, float]] = {name: {} for name in systems}
    for depth in sorted({*(depth for depth in DEPTHS if depth < most), most}):
        first, *others = make(requests + 1, depth)
        times = measure(_warm(systems, first, [[request] for request in others]), requests)
        for name, seconds in times.seconds.items():
            median[name][depth] = statistics.median(seconds)
            p95[name][depth] = float(np.quantile(seconds, 0.95))
    return Latencies(requests, {n: c for n, c in median.items() if c}, {n: c for n, c in p95.items() if c})


def draw(options: Options, folder: Path) -> dict[str, Any]:
    """Measure both curves on the first mix and the largest number of candidates, and draw them into a folder."""
    from benchmarks.speed.plots import draw_latencies, draw_throughputs

    mix, most = Mix.parse(options.mixes[0]), max(options.candidates)
    with loaded(options) as ready:
        what = f"{ready.setting.folder.name}, mix {mix.name}, threads: {ready.setting.threads}"
        by_batch = throughputs(ready.setting, list(ready.systems), ready.requests(mix, options.rounds + 1, most))
        draw_throughputs(by_batch, folder / "throughput.png", title=f"{what}, {most} candidates")
        make = lambda count, depth: ready.requests(mix, count, depth)  # noqa: E731
        by_depth = latencies(ready.systems, make, requests=REQUESTS, most=most)
        draw_latencies(by_depth, folder / "latency.png", title=what)
    return {"mix": mix.name, "throughput": by_batch.to_dict(), "latency": by_depth.to_dict()}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--model", help="an embedded model, a folder, or a name on the hub")
    parser.add_argument("--mix", default="bioasq", help="bioasq or tokens a pair")
    parser.add_argument("--candidates", type=int, default=100, help="at most")
    parser.add_argument("--system", action="append", default=[], help="a name or its beginning; all if not given")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device")
    parser.add_argument("--data", type=Path, help="folder with bioasq/; the demo collection if not given")
    parser.add_argument("--out", type=Path, required=True, help="folder for the plots and curves.json")
    args = parser.parse_args()
    options = Options(
        model=args.model,
        mixes=(args.mix,),
        candidates=(args.candidates,),
        systems=tuple(args.system),
        rounds=args.rounds,
        device=args.device,
        data=args.data,
    )
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "curves.json").write_text(json.dumps(draw(options, args.out), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
