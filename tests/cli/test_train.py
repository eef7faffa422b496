"""``biorerank train``: a folder with all results, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from biorerank_plugins import BioReranker
from biorerank_plugins.training.rows import TrainingPair, write_rows

Run = Callable[..., Result]
ErrorLine = Callable[..., str]

ROWS = [
    TrainingPair(f"does aspirin work {i}", ("insulin lowers glucose", "aspirin inhibits platelets")[i % 2], i % 2, "t")
    for i in range(24)
]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl.gz"
    write_rows(ROWS, path)
    return path


def test_a_recipe_with_overrides_and_a_dev_set(run: Run, rows: Path, tiny_encoder_dir: Path, tmp_path: Path) -> None:
    dev = tmp_path / "dev.jsonl"
    write_rows([TrainingPair("which drug", "aspirin platelets", 1.0), TrainingPair("which drug", "insulin", 0.0)], dev)
    arguments = (
        "train", rows, "--base", tiny_encoder_dir, "--out", tmp_path / "out", "--epochs", "3", "--batch-size", "8",
        "--learning-rate", "0.003", "--no-bf16", "--max-length", "64", "--limit-rows", "20", "--dev", dev,
        "--log-steps", "2", "--device", "cpu", "--quiet",
    )  # fmt: skip
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert [entry["step"] for entry in document["log"]] == [2, 4, 6, 8, 9]
    training = json.loads((tmp_path / "out" / "training.json").read_text(encoding="utf-8"))
    assert (training["recipe"], training["data"]["rows"], training["dev"]) == ("minilm", 20, document["dev"])
    assert (training["config"]["learning_rate"], training["config"]["warmup_ratio"]) == (0.003, 0.06)
    assert BioReranker(tmp_path / "out" / "model", device="cpu").rank("q", ["a", "b"])
    assert "## Evaluation" in (tmp_path / "out" / "model" / "README.md").read_text(encoding="utf-8")
    table = run(*arguments)  # finished before: nothing is trained again
    assert table.stdout.splitlines()[0].split("\t") == ["epoch", "step", "loss"]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--recipe", "other"), 1, "There is no recipe 'other'. Choose one of: biobert-bioasq, minilm"),
        (("--optimizer", "card-arguments"), 1, "The recipe minilm has no optimizer 'card-arguments'"),
        (("--learning-rate", "0"), 1, "learning_rate must be a number above 0"),
        (("--early-stop", "3"), 2, "--early-stop needs --dev"),
        (("--base", "no-such-model"), 1, "There is no model 'no-such-model'"),
    ],
)
def test_wrong_options_are_one_line(
    run: Run, error_line: ErrorLine, rows: Path, tmp_path: Path, options: tuple[str, ...], code: int, said: str
) -> None:
    line = error_line(run("train", rows, "--out", tmp_path / "out", "--quiet", *options), code=code)
    assert said in line


def test_a_base_that_only_the_hub_has_is_said_where_there_is_no_hub(
    run: Run, error_line: ErrorLine, rows: Path, tmp_path: Path, no_network: None
) -> None:
    result = run("train", rows, "--recipe", "biobert-bioasq", "--out", tmp_path / "out", "--quiet")
    line = error_line(result)
    assert "'dmis-lab/biobert-base-cased-v1.1' cannot be loaded" in line
    assert "--base" in line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"question": "q", "passage": "p", "label": 3}', "rows.jsonl:1: The label must be 0, 1 or a number between"),
        ('{"question": "", "passage": "p", "label": 1}', "rows.jsonl:1: The question is empty"),
        ('{"question": "q", "passage": "p", "label": 1}', "All rows have labels on one side of 0.5"),
        ("not json", "rows.jsonl:1: Not valid JSON"),
    ],
)
def test_rows_that_cannot_be_learned_from_are_one_line(
    run: Run, error_line: ErrorLine, tmp_path: Path, content: str, said: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content + "\n", encoding="utf-8")
    assert said in error_line(run("train", path, "--out", tmp_path / "out", "--quiet"))


def test_dev_questions_in_the_rows_are_refused(run: Run, error_line: ErrorLine, rows: Path, tmp_path: Path) -> None:
    dev = tmp_path / "dev.jsonl"
    write_rows([TrainingPair("Does ASPIRIN work 3?", "aspirin platelets", 1.0)], dev)
    line = error_line(run("train", rows, "--out", tmp_path / "out", "--dev", dev, "--quiet"))
    assert "1 question of the dev set dev.jsonl is in the training rows" in line
