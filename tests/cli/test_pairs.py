"""``biorerank pairs``: rows, statistics, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from biorerank_plugins.training.rows import describe, read_rows

Run = Callable[..., Result]
ErrorLine = Callable[..., str]


@pytest.fixture(scope="module")
def bioasq(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 questions on topics of their own, two snippets each."""
    questions = [
        {
            "id": f"q{n}",
            "body": f"which drug treats topic{n} disease?",
            "snippets": [{"text": f"Drug{n}x treats topic{n}, fact {i}{n}.", "document": f"d{n}"} for i in "ab"],
        }
        for n in range(40)
    ]
    path = tmp_path_factory.mktemp("pairs") / "training.json"
    path.write_text(json.dumps({"questions": questions}), encoding="utf-8")
    return path


def test_rows_and_statistics_are_written(run: Run, bioasq: Path, tiny_encoder_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs.jsonl.gz"
    arguments = ("pairs", bioasq, "--out", out, "--encoder", tiny_encoder_dir, "--device", "cpu", "--dtype", "float32")
    result = run(*arguments, "--save-runs", tmp_path / "runs", "--max-score-ratio", "9", "--json")
    assert result.exit_code == 0, result.output
    rows = read_rows(out)
    assert json.loads(result.stdout) == {"file": str(out), **describe(rows)}
    assert sum(row.label for row in rows) == 80
    assert describe(rows)["label_mean"] == pytest.approx(0.49, abs=0.03)
    statistics = json.loads((tmp_path / "pairs.statistics.json").read_text(encoding="utf-8"))
    assert statistics["settings"]["seed"] == 42
    assert statistics["inputs"] == ["training.json"]
    runs = ("--dense-run", tmp_path / "runs" / "dense.trec", "--bm25-run", tmp_path / "runs" / "bm25.trec")
    again = run("pairs", bioasq, "--out", tmp_path / "again.jsonl.gz", *runs, "--max-score-ratio", "9")
    assert again.exit_code == 0, again.output
    assert read_rows(tmp_path / "again.jsonl.gz") == rows  # without a model


def test_a_table_stands_beside_the_figures_of_the_card(run: Run, bioasq: Path, tmp_path: Path) -> None:
    result = run("pairs", bioasq, "--out", tmp_path / "p.jsonl", "--mine", "bm25", "--limit-questions", "5")
    assert result.exit_code == 0, result.output
    table = {line.split("\t")[0]: line.split("\t")[1:] for line in result.stdout.splitlines()}
    assert table["mean label"][1] == "0.49"
    assert table["rows"][1] == "120,312"
    assert table["characters of a passage, min / mean / max"][1] == "12 / 179.42 / 1,494"
    assert int(table["rows: gold"][0]) == 10
    assert "5 questions, 10 passages" in result.stderr


def test_random_negatives_alone_and_abstracts(run: Run, bioasq: Path, tmp_path: Path) -> None:
    abstracts = tmp_path / "abstracts.jsonl"
    sentences = [{"text": "Nothing about it.", "label": 0}, {"text": "It is so.", "label": 1}]
    abstracts.write_text(json.dumps({"qid": "q1", "doc": "d", "sentences": sentences}) + "\n", encoding="utf-8")
    out = tmp_path / "p.jsonl"
    result = run("pairs", bioasq, "--out", out, "--mine", "none", "--abstracts", abstracts, "--whole-abstracts")
    assert result.exit_code == 0, result.output
    assert set(describe(read_rows(out))["by_source"]) == {"gold", "random", "same abstract", "whole abstract"}


def test_held_out_questions_stop_the_command_or_are_dropped(
    run: Run, error_line: ErrorLine, bioasq: Path, tmp_path: Path
) -> None:
    held_out = tmp_path / "dev.jsonl"
    held_out.write_text(json.dumps({"id": "x", "question": "Which drug treats TOPIC7 disease"}) + "\n")
    arguments = ("pairs", bioasq, "--out", tmp_path / "p.jsonl", "--mine", "bm25", "--held-out", held_out)
    line = error_line(run(*arguments))
    assert "1 question is held out: 'which drug treats topic7 disease?'" in line
    assert not (tmp_path / "p.jsonl").exists()
    assert run(*arguments, "--drop-held-out").exit_code == 0
    assert all(
        "topic7 " not in row.question and "topic7," not in row.passage for row in read_rows(tmp_path / "p.jsonl")
    )


@pytest.mark.parametrize(
    ("content", "options", "code", "said"),
    [
        (
            '{"questions": [{"id": "1", "body": "q?", "snippets": [{"text": ""}]}]}',
            (),
            1,
            "Snippet 1: The text",
        ),
        ('{"questions": [{"id": "1", "body": "q?"}]}', (), 1, "No question with a passage that answers it"),
        ('{"question": "q?", "answer": "a"}', ("--mine", "none"), 1, "labels on one side"),
        ('{"question": "q?", "answer": "a"}', ("--drop-held-out",), 2, "--drop-held-out needs --held-out"),
        ('{"question": "q?", "ans', (), 1, "input.json:1: Not valid JSON"),
    ],
)
def test_bad_input_is_one_line(
    run: Run, error_line: ErrorLine, tmp_path: Path, content: str, options: tuple[str, ...], code: int, said: str
) -> None:
    path = tmp_path / "input.json"
    path.write_text(content, encoding="utf-8")
    result = run("pairs", path, "--out", tmp_path / "p.jsonl", "--quiet", *options)
    assert said in error_line(result, code=code)
