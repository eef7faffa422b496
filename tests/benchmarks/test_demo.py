"""The demo collection's figures are what ``biorerank evaluate`` makes of it."""

from __future__ import annotations

import json

from support.scripts import run_script

from benchmarks.quality.demo import KEYS


def test_both_stages_are_measured(tmp_path, monkeypatch, capsys):
    run_script("quality.demo", monkeypatch, "--candidates", 2, "--out", tmp_path / "demo.json")
    found = json.loads((tmp_path / "demo.json").read_text())
    assert set(found) == set(KEYS)
    assert (found["queries"], found["candidates"], found["pairs"]) == (60, 2, 120)
    assert set(found["per_query"]["nDCG@10"]["question-01"]) == {"first_stage", "reranked"}
    assert capsys.readouterr().out.startswith("nDCG@10: 0.")
