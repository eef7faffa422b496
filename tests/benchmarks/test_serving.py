"""The script that measures the server, on next to nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import support.serve  # noqa: F401  # skips where the extra is missing
from support import ROOT


@pytest.mark.slow
def test_it_measures_compares_and_overloads(tmp_path: Path):
    out = tmp_path / "serving.json"
    options = ["--requests", "6", "--texts", "4", "--clients", "1", "3", "--rounds", "1", "--seconds", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed.serving", *options, "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    found = json.loads(out.read_text(encoding="utf-8"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert found["compared"]["wrong_answers"] == found["overload"]["wrong_answers"] == 0
    assert [row["clients"] for row in found["compared"]["rows"]] == [1, 3]
    for row in found["compared"]["rows"]:
        for name in ("library", "server"):
            assert 0 < row[name]["p50_seconds"] <= row[name]["p99_seconds"]
        share = row["server"]["pairs_per_second"] / row["library"]["pairs_per_second"]
        assert row["server_share"]["second"] == pytest.approx(share)
    assert set(found["overload"]["statuses"]) == {"200", "429"}
    assert str(tmp_path) not in out.read_text(encoding="utf-8")
