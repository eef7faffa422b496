"""``biorerank index``: a plan, and what --engine ray does not take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from biorerank_plugins.cli import app


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_plan_measures_this_machine_and_indexes_nothing(tmp_path: Path, tiny_encoder_dir: Path):
    (tmp_path / "a.jsonl").write_text(
        "".join(f'{{"_id": "{n}", "text": "p53 suppresses tumours {n}."}}\n' for n in range(50))
    )
    done = run("index", "--plan", 1_000_000, tmp_path / "a.jsonl", "--encoder", tiny_encoder_dir, "--json")
    assert done.exit_code == 0, done.output
    plan = json.loads(done.stdout)
    assert plan["passages"] == 1_000_000
    assert plan["rates"]["dimension"] == 32
    assert [one["factory"] for one in plan["indexes"]][:3] == ["Flat", "HNSW32", "HNSW32_SQ8"]
    flat, *_, refined = plan["indexes"]
    assert flat["memory_bytes"] > 1e6 * 32 * 4
    assert 0.9 < refined["recall_real"] < flat["recall_real"] == 1.0  # measured figures come with the package
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl"]
    table = run("index", "--plan", 1_000_000, tmp_path / "a.jsonl", "--encoder", tiny_encoder_dir)
    assert "IVF4096,PQ4,Refine(SQ8)" in table.stdout
    assert "benchmarks/speed/scale.py" in table.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'INPUT'"),
        (["-", "--out", "o", "--engine", "ray"], "no stdin"),
        (["a.jsonl", "--out", "o", "--engine", "ray", "--format", "lines"], "no --format lines"),
        (["a.jsonl", "--out", "o", "--lists-on-disk"], "needs --engine ray"),
        (["a.jsonl", "--out", "o", "--engine", "spark"], "spark"),
    ],
)
def test_what_does_not_go_together_is_wrong_usage(arguments, message, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("index", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not list(tmp_path.iterdir())
