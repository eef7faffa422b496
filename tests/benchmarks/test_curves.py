"""Curves over batch size and candidates, and their plots."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.scripts import run_script
from support.speed import Clock, request, setting_of, working

from benchmarks.speed.curves import BATCH_SIZES, BATCH_TOKENS, Latencies, Throughputs, latencies, throughputs
from biorerank_plugins.speed.systems import System


def test_batch_sizes_of_the_baseline_and_of_ours(tiny_cross_encoder_dir, tmp_path):
    setting = setting_of(tiny_cross_encoder_dir, tmp_path)
    found = throughputs(setting, ["predict", "ours-torch-float32"], [request(), request()])
    assert list(found.by_pairs) == list(BATCH_SIZES)
    assert list(found.by_tokens["ours-torch-float32"]) == list(BATCH_TOKENS["cpu"])
    assert all(rate > 0 for rate in [*found.by_pairs.values(), *found.by_tokens["ours-torch-float32"].values()])
    json.dumps(found.to_dict(), allow_nan=False)


def test_latencies_by_number_of_candidates():
    made = []

    def make(count, depth):
        made.append((count, depth))
        return [request(["text"] * depth) for _ in range(count)]

    def refuse(given):
        raise MemoryError("too many" if len(given.texts) > 10 else "")

    systems = {
        "predict": working(Clock(), lambda _: 0.0),
        "broken": System("breaks", "float32", lambda given: given, refuse, np.asarray),
    }
    found = latencies(systems, make, requests=3, most=30)
    assert made == [(4, 10), (4, 20), (4, 30)]
    assert list(found.median) == ["predict"]
    assert list(found.p95["predict"]) == [10, 20, 30]
    assert set(found.to_dict()) == {"requests", "p50_ms", "p95_ms"}


def test_the_script_draws_both_curves(tiny_cross_encoder_dir, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    given = ("--model", tiny_cross_encoder_dir, "--candidates", 5, "--rounds", 1, "--system", "ours-torch-float32")
    run_script("speed.curves", monkeypatch, *given, "--out", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"throughput.png", "latency.png", "curves.json"}
    assert set(json.loads((tmp_path / "curves.json").read_text())) == {"mix", "throughput", "latency"}


def test_plots_are_pictures(tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks.speed.plots import draw_latencies, draw_throughputs

    names = ["predict", "_odd", *(f"ours-{n}" for n in range(9))]
    draw_throughputs(
        Throughputs(100, {8: 10.0, 32: 12.0}, {name: {512: 40.0, 1024: 50.0} for name in names[1:]}),
        tmp_path / "throughput.png",
        title="tiny",
    )
    curves = {name: {10: 0.01, 100: 0.1} for name in names}
    draw_latencies(Latencies(20, curves, curves), tmp_path / "latency.png", title="tiny")
    for name in ("throughput", "latency"):
        data = (tmp_path / f"{name}.png").read_bytes()
        assert data.startswith(b"\x89PNG") and len(data) > 10_000


def test_a_plot_without_any_of_our_systems_is_drawn_too(tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks.speed.plots import draw_throughputs

    draw_throughputs(Throughputs(100, {8: 10.0}, {}), tmp_path / "t.png", title="tiny")
    assert (tmp_path / "t.png").stat().st_size > 1000
