"""``biorerank evaluate``: measures before and after, from an index, files or a BEIR folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from biorerank_plugins.evaluation import measure_run, read_run
from biorerank_plugins.readers import read_qrels

Run = Callable[..., Result]
ErrorLine = Callable[..., str]

TIMES = ("first_stage_seconds", "first_stage_ms_per_query", "rerank_seconds", "rerank_pairs_per_second")


def _document(result: Result) -> dict[str, object]:
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    return {key: value for key, value in document.items() if key not in TIMES}


def test_the_same_questions_give_the_same_values_from_everywhere(
    biorerank: Run, collection: Path, index_folder: Path
) -> None:
    parts = ("--queries", collection / "queries.jsonl", "--qrels", collection / "qrels" / "test.tsv")
    beir = _document(biorerank("evaluate", "--beir", collection, "--json"))
    files = _document(biorerank("evaluate", "--corpus", collection / "corpus.jsonl", *parts, "--json"))
    index = _document(biorerank("evaluate", "--index", index_folder, *parts, "--json"))
    both = _document(biorerank("evaluate", "--index", index_folder, "--beir", collection, "--json"))
    assert beir == files == index == both
    assert (beir["queries"], beir["pairs"], beir["candidates"]) == (3, 18, 100)


def test_runs_and_report_are_written(biorerank: Run, collection: Path, tmp_path: Path) -> None:
    """The run files hold what was measured: measured again, they give the report's values."""
    result = biorerank(
        "evaluate", "--beir", collection, "--candidates", "3", "--run-out", tmp_path / "runs",
        "--json-out", tmp_path / "report.json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    qrels = read_qrels(collection / "qrels" / "test.tsv")
    for name, key in (("first_stage", "baseline"), ("reranked", "value")):
        means = measure_run(read_run(tmp_path / "runs" / f"{name}.trec"), qrels).means
        assert means == pytest.approx({measure: values[key] for measure, values in report["measures"].items()})
    assert set(report["per_query"]["nDCG@10"]) == {"q1", "q2", "q3"}
    assert report["per_query"]["nDCG@10"]["q1"].keys() == {"first_stage", "reranked"}
    assert all(report[name] > 0 for name in TIMES)


def test_before_and_after_are_two_of_the_systems(biorerank: Run, collection: Path) -> None:
    """With a weight what is measured is what a search gives, not the model alone."""
    beir = ("evaluate", "--beir", collection, "--fusion", "2", "--json")
    simple = _document(biorerank(*beir))
    systems = json.loads(biorerank(*beir, "--baseline", "hybrid").stdout)
    first, alone, fused = systems["systems"]
    assert (first, fused) == ("hybrid", f"{alone}+fusion")
    for measure, values in simple["measures"].items():
        compared = systems["comparisons"][fused][measure]
        assert values == {**compared, "holm": {}}
        assert values["baseline"] == systems["systems"][first]["means"][measure]
        assert values["value"] == systems["systems"][fused]["means"][measure]


def test_a_table_says_what_changed(biorerank: Run, collection: Path) -> None:
    result = biorerank("evaluate", "--beir", collection)
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert rows[0][:5] == ["measure", "first stage", "reranked", "change", "95 % interval"]
    assert [row[0] for row in rows[1:]] == ["nDCG@10", "MRR@10", "MAP@10", "recall@100"]
    assert all(float(row[2]) - float(row[1]) == pytest.approx(float(row[3]), abs=1.01e-4) for row in rows[1:])
    assert "3 judged questions, 100 candidates each" in result.stderr


def test_only_the_first_questions(biorerank: Run, collection: Path) -> None:
    document = _document(biorerank("evaluate", "--beir", collection, "--limit-queries", "2", "--json"))
    assert (document["queries"], document["queries_without_text"]) == (2, 0)


def test_judged_questions_without_text_are_told(biorerank: Run, collection: Path, tmp_path: Path) -> None:
    qrels = tmp_path / "qrels.tsv"
    qrels.write_text("q1\tp1\t1\nlost\tp2\t1\n")
    result = biorerank("evaluate", "--beir", collection, "--qrels", qrels)
    assert result.exit_code == 0
    assert "1 judged questions have no text" in result.stderr


def test_bad_input_is_one_line(
    biorerank: Run, run: Run, error_line: ErrorLine, collection: Path, tmp_path: Path
) -> None:
    (tmp_path / "qrels.tsv").write_text("other\tp1\t1\n")
    (tmp_path / "bad.tsv").write_text("q1\tp1\tgood\n")
    beir = ("evaluate", "--beir", collection)
    assert "None of the 3 queries has a judgement" in error_line(biorerank(*beir, "--qrels", tmp_path / "qrels.tsv"))
    limited = biorerank(*beir, "--qrels", tmp_path / "qrels.tsv", "--limit-queries", "1")
    assert "None of the 0 queries" in error_line(limited) or "judgement" in error_line(limited)
    assert "bad.tsv:1: The grade must be" in error_line(biorerank(*beir, "--qrels", tmp_path / "bad.tsv"))
    assert "no corpus.jsonl" in error_line(biorerank("evaluate", "--beir", tmp_path))
    assert "no such folder" in error_line(biorerank("evaluate", "--beir", tmp_path / "absent"))
    assert "no passage index" in error_line(biorerank(*beir, "--index", tmp_path))
    assert "Embedded models:" in error_line(run(*beir, "--model", "unknown"))
    assert "cannot be written" in error_line(biorerank(*beir, "--run-out", tmp_path / "no" / "where"))
    assert "cannot be written" in error_line(biorerank(*beir, "--json-out", tmp_path / "no" / "report.json"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Give --beir FOLDER"),
        (["--queries", "a", "--qrels", "b"], "Give --beir FOLDER"),
        (["--index", "a", "--corpus", "b"], "not both"),
        (["--beir", "a", "--candidates", "0"], "--candidates"),
    ],
)
def test_wrong_usage_is_one_line(biorerank: Run, error_line: ErrorLine, arguments: list[str], said: str) -> None:
    assert said in error_line(biorerank("evaluate", *arguments), code=2)


def test_a_duplicate_is_answered_with_a_command_that_can_leave_it_out(
    biorerank: Run, error_line: ErrorLine, collection: Path, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(2 * '{"id": "a", "text": "aspirin"}\n')
    options = ("--queries", collection / "queries.jsonl", "--qrels", collection / "qrels" / "test.tsv")
    said = error_line(biorerank("evaluate", "--corpus", corpus, *options))
    assert said.endswith("Ids must be unique; biorerank index --on-duplicate skip keeps the first.")
