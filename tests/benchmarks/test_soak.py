"""The soak in a short form: full load, cancelled and late calls, models opened and closed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

from biorerank_plugins import models


@pytest.mark.slow
@pytest.mark.skipif(models.DEFAULT_RERANKER not in models.names(), reason="the embedded reranker is not here")
def test_a_short_soak_has_no_mismatch_and_leaves_nothing(tmp_path: Path):
    out = tmp_path / "soak.json"
    arguments = ["--seconds", "8", "--callers", "8", "--latency-rounds", "1", "--rounds", "8", "--backends", "packed"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.reliability.soak", *arguments, "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(out.read_text(encoding="utf-8"))
    assert result["soak"]["calls"] > 10
    assert result["soak"]["mismatches"] == 0
    assert result["latency"]["p99_ms"] >= result["latency"]["p50_ms"] > 0
    [opened] = result["open_close"]
    assert opened["threads_after_last"] == opened["threads_after_first"] == 1
    # Less than a tenth of the model's 90 MB stays a round, and that is what the memory allocator keeps.
    assert opened["kb_a_round"] < 9_000
    assert str(Path.home()) not in out.read_text(encoding="utf-8")
