"""Parts of the GPU benchmark that are about time and memory; each returns plain JSON types."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.speed.gpu_common import (
    SLOW_TO_START,
    VARIANTS,
    Bench,
    in_turn,
    name_of,
    nothing,
    percentiles,
    random_pairs,
    rate,
    seconds_of,
)
from biorerank_plugins import BioReranker
from biorerank_plugins.speed.roofline import measure_roofline
from biorerank_plugins.speed.rounds import measure

LENGTH = 256
FP32 = "st fp32, batch 32"


def ceilings(bench: Bench) -> dict[str, Any]:
    """Measured rates of matrix products and copies."""
    small = {"seconds": 0.02, "sizes": (64,)} if bench.device.type == "cpu" else {}
    bench.roofline = measure_roofline(str(bench.device), torch.get_num_threads(), **small)
    return {
        "teraflops": {dtype: rate / 1e12 for dtype, rate in bench.roofline.operations.items()},
        "copied_terabytes_a_second": bench.roofline.copied / 1e12,
    }


def throughput(bench: Bench, variants: Sequence[str] = ("padded", "kernels", "fused")) -> list[dict[str, Any]]:
    """Pairs a second at 256 tokens, token ids given."""
    rows = []
    for shape in bench.sizes.shapes:
        pairs = random_pairs([LENGTH] * bench.sizes.pairs[shape], words=1_000)
        for dtype, variant in itertools.product(bench.halves, variants):
            if dtype != bench.halves[0] and variant != "kernels":
                continue  # the precisions take the same time, and one of them is enough to see it
            backend = bench.backend(bench.folder(shape), dtype, variant)
            for tokens in bench.sizes.budgets if variant != "padded" else bench.sizes.budgets[:2]:
                worker = bench.worker(backend, tokens)
                seconds = seconds_of(partial(worker.run, pairs, nothing), bench.sizes.rounds)
                worker.close()
                row = {"shape": shape, "dtype": name_of(dtype), "variant": variant, "tokens_a_batch": tokens}
                row["pairs_a_second"] = rate(len(pairs), seconds)
                rows.append(row | _shares(bench, shape, len(pairs), statistics.median(seconds), dtype))
    return rows


def compiled_throughput(bench: Bench) -> list[dict[str, Any]]:
    """The same through torch.compile, whose first batches take long."""
    return throughput(bench, ("compiled",)) if bench.device.type == "cuda" else []


def _shares(bench: Bench, shape: str, pairs: int, seconds: float, dtype: torch.dtype) -> dict[str, Any]:
    """Shares of the measured matrix rate: of what was asked for, and of what the packed forward computes for it."""
    if bench.roofline is None or name_of(dtype) not in bench.roofline.operations:
        return {}
    sizes = bench.sizes.shapes[shape]
    h, i, s = sizes.hidden, sizes.intermediate, LENGTH
    asked = sizes.flops([LENGTH] * pairs)
    spared = pairs * (4 * h * h * (s - 1) + 4 * h * i * (s - 1) + 4 * s * (s - 1) * h)
    shares = [bench.roofline.share(work, seconds, name_of(dtype)) or 0.0 for work in (asked, asked - spared)]
    return {"share_of_roofline": round(shares[0], 4), "computed_share": round(shares[1], 4)}


def requests(bench: Bench, variants: Sequence[str] = ("padded", "kernels", "graphs", "fused")) -> list[dict[str, Any]]:
    """One question with its candidates, token ids given: 256 tokens a pair, and the 150-token mix."""
    encoded = bench.tokenizer().encode([(query, text) for query, texts in bench.texts[:20] for text in texts])
    n = min(bench.sizes.candidates, len(encoded))
    mixed = [encoded[first : first + n] for first in range(0, len(encoded) - n + 1, n)]
    even = [random_pairs([LENGTH] * n, words=1_000, seed=seed) for seed in range(8)]
    rows = []
    for shape in bench.sizes.shapes:
        for variant in variants:
            backend = bench.backend(bench.folder(shape), bench.halves[0], variant)
            worker = bench.worker(backend, 65_536)
            for tokens, given in (("256", even), ("150 mix", mixed)):
                call = in_turn(partial(worker.run, check=nothing), given)
                seconds = seconds_of(call, bench.sizes.requests, before=3 * len(given))
                rows.append({"shape": shape, "variant": variant, "tokens": tokens} | percentiles(seconds))
            worker.close()
    return rows


def compiled_requests(bench: Bench) -> list[dict[str, Any]]:
    """The same through torch.compile, with and without graphs."""
    return requests(bench, SLOW_TO_START) if bench.device.type == "cuda" else []


def texts(bench: Bench) -> list[dict[str, Any]]:
    """From text to score, beside sentence-transformers as hosts call it and in its best setting."""
    pairs = [(query, text) for query, own in bench.texts for text in own]
    lists = [[(query, text) for text in own[: bench.sizes.candidates]] for query, own in bench.texts[:20]]
    alone = rate(len(pairs), seconds_of(partial(bench.tokenizer().encode, pairs), 2))
    rows = []
    for shape in bench.sizes.shapes:
        chosen = _chosen_systems(bench, shape, pairs[: max(bench.sizes.candidates, len(pairs) // 8)])
        times = measure({name: _on(call, pairs) for name, call in chosen.items()}, max(1, bench.sizes.rounds - 2))
        if times.failed:
            raise RuntimeError(f"{shape}: {times.failed}")
        for name, call in chosen.items():
            of_one = seconds_of(in_turn(call, lists), max(1, bench.sizes.requests // 2), before=5)
            row = {"shape": shape, "system": name, "pairs_a_second": rate(len(pairs), times.seconds[name])}
            rows.append(row | {f"request_{key}": value for key, value in percentiles(of_one).items()})
        fp32, best, ours = (row["pairs_a_second"] for row in rows[-3:])
        rows[-1] |= {"times_st_fp32": round(ours / fp32, 2), "times_st_best": round(ours / best, 2)}
        rows[-1] |= {"tokenizing_alone_pairs_a_second": alone}
    return rows


def _on(call: Any, pairs: list[tuple[str, str]]) -> Any:
    return lambda _: partial(call, pairs)


def _chosen_systems(bench: Bench, shape: str, some: list[tuple[str, str]]) -> dict[str, Any]:
    """The baseline, the fastest setting of sentence-transformers on some pairs, and ours, in this order; all warm."""
    systems = _systems(bench, shape)
    halves = [name for name in systems if name.startswith("st half")]
    seconds = {name: min(seconds_of(partial(systems[name], some), 2)) for name in halves}
    chosen = {name: systems[name] for name in (FP32, min(halves, key=lambda name: seconds[name]), "ours")}
    for call in chosen.values():
        call(some)
    return chosen


def _systems(bench: Bench, shape: str) -> dict[str, Any]:
    from sentence_transformers import CrossEncoder

    def load(dtype: torch.dtype) -> Any:
        model = CrossEncoder(
            str(bench.folder(shape)), device=str(bench.device), max_length=512, model_kwargs={"dtype": dtype}
        )
        found = {parameter.dtype for parameter in model.parameters()}
        assert found == {dtype}, f"the baseline computes in {found}, not in {dtype}"
        return model

    def predict(model: Any, size: int) -> Any:
        return lambda pairs: model.predict(pairs, batch_size=size, show_progress_bar=False)

    systems = {FP32: predict(load(torch.float32), 32)}
    for dtype in bench.halves:
        model = load(dtype)
        for size in bench.sizes.st_batches:
            systems[f"st half: {name_of(dtype)}, batch {size}"] = predict(model, size)
    ours = BioReranker(
        bench.folder(shape), device=bench.device, dtype=name_of(bench.halves[0]), backend="packed", windows=False
    )
    return systems | {"ours": ours.predict}


def memory(bench: Bench) -> list[dict[str, Any]]:
    """Device memory over the weights, at each number of tokens a batch, and of the graphs of small batches."""
    if bench.device.type != "cuda":
        return []
    rows = []
    for shape in bench.sizes.shapes:
        for variant in ("kernels", "graphs"):
            backend = bench.backend(bench.folder(shape), bench.halves[0], variant)
            torch.cuda.empty_cache()
            weights = torch.cuda.memory_allocated()
            for tokens in bench.sizes.budgets if variant == "kernels" else (4_096, 16_384, 32_768):
                torch.cuda.reset_peak_memory_stats()
                for _ in range(3):
                    backend.forward(random_pairs([LENGTH] * (tokens // LENGTH), words=1_000))
                peak, kept = torch.cuda.max_memory_allocated() - weights, torch.cuda.memory_reserved() - weights
                row = {"shape": shape, "variant": variant, "tokens_a_batch": tokens, "weights_mb": weights >> 20}
                rows.append(row | {"peak_mb": peak >> 20, "reserved_mb": kept >> 20})
    return rows


def profile(bench: Bench) -> dict[str, Any]:
    """Where the time of one batch goes."""
    on_gpu = bench.device.type == "cuda"
    activities = [torch.profiler.ProfilerActivity.CPU, *([torch.profiler.ProfilerActivity.CUDA] if on_gpu else [])]
    found = {}
    for shape in bench.sizes.shapes:
        for variant in ("kernels", "fused"):
            backend = bench.backend(bench.folder(shape), bench.halves[0], variant)
            pairs = random_pairs([LENGTH] * max(1, bench.sizes.budgets[-1] // 4 // LENGTH), words=1_000)
            seconds = seconds_of(partial(backend.forward, pairs), 5, before=3)
            with torch.profiler.profile(activities=activities) as recorded:
                backend.forward(pairs)
                bench.synchronize()
            key = "self_device_time_total" if on_gpu else "self_cpu_time_total"
            rows = sorted(recorded.key_averages(), key=lambda row: -getattr(row, key))[:14]
            top = [
                {"kernel": row.key[:90], "calls": row.count, "ms": round(getattr(row, key) / 1000, 4)} for row in rows
            ]
            found[f"{shape}, {variant}"] = {"tokens": len(pairs) * LENGTH, "wall": percentiles(seconds), "top": top}
    return found


assert set(SLOW_TO_START) <= set(VARIANTS)
