"""Each system is timed in a process of its own."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pytest

from benchmarks.speed import alone


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def test_it_says_how_many_times_as_fast_each_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path / "bioasq" / "dev.jsonl.gz", [{"question": f"What does drug {n} do?"} for n in range(9)])
    _write(tmp_path / "bioasq" / "corpus.jsonl.gz", [{"text": f"Drug {n} lowers the pressure."} for n in range(9)])
    out = tmp_path / "alone.json"
    command = ["alone", "--data", str(tmp_path), "--rounds", "2", "--candidates", "3", "--system", "int8"]
    monkeypatch.setattr(sys, "argv", [*command, "--out", str(out)])
    alone.main()
    found = json.loads(out.read_text("utf-8"))
    assert set(found) == set(alone.KEYS)
    assert set(found["times as fast"]) == {"int8"}
    assert set(found["seconds"]) == {"predict", "int8"}
    assert all(seconds > 0 for seconds in found["seconds"].values())
    requests = alone.drawn(tmp_path, 2, 3)
    assert [len({question for question, _ in pairs}) for pairs in requests] == [1, 1]
    assert requests[0] != requests[1]
