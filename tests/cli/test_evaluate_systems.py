"""``biorerank evaluate`` with several systems, BioASQ files, runs and reports."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from biorerank_plugins.evaluation import write_run

Run = Callable[..., Result]
ErrorLine = Callable[..., str]

QUESTIONS = [
    {
        "id": "b1",
        "body": "does p53 suppress tumours?",
        "documents": ["http://www.ncbi.nlm.nih.gov/pubmed/101"],
        "snippets": [{"text": "p53 suppresses tumours.", "document": "http://www.ncbi.nlm.nih.gov/pubmed/101"}],
    },
    {
        "id": "b2",
        "body": "what lowers glucose?",
        "documents": ["http://www.ncbi.nlm.nih.gov/pubmed/103"],
        "snippets": [
            {"text": "metformin lowers glucose.", "document": "http://www.ncbi.nlm.nih.gov/pubmed/103"},
            {"text": "a text that no collection has", "document": "http://www.ncbi.nlm.nih.gov/pubmed/999"},
        ],
    },
]


@pytest.fixture
def trec(tmp_path: Path) -> Path:
    path = tmp_path / "other.trec"
    write_run({"q1": {"p1": 2.0, "p2": 1.0}, "unknown": {"p1": 1.0}}, path)
    return path


@pytest.fixture
def bioasq(tmp_path: Path) -> Path:
    path = tmp_path / "golden.json"
    path.write_text(json.dumps({"questions": QUESTIONS}), encoding="utf-8")
    return path


def _document(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_everything_in_one_call(
    run: Run, tiny_cross_encoder_dir: Path, collection: Path, index_folder: Path, trec: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="the extra 'eval' is not installed")
    result = run(
        "evaluate", "--index", index_folder, "--beir", collection, "--first-stage", "dense", "--first-stage", "hybrid",
        "--model", tiny_cross_encoder_dir, "--model", f"again={tiny_cross_encoder_dir}", "--run", f"mine={trec}",
        "--baseline", "hybrid", "--report", tmp_path / "out", "--csv", tmp_path / "values.csv", "--run-out",
        tmp_path / "runs", "--json",
    )  # fmt: skip
    document = _document(result)
    name = tiny_cross_encoder_dir.name
    assert list(document["systems"]) == [
        "dense", f"dense+{name}", "dense+again", "hybrid", f"hybrid+{name}", "hybrid+again", "mine",
    ]  # fmt: skip
    assert document["systems"]["dense+again"]["means"] == document["systems"][f"dense+{name}"]["means"]
    assert document["baseline"] == "hybrid"
    assert document["setup"]["rerankers"]["again"]["sha256"] == document["setup"]["rerankers"][name]["sha256"]
    assert "1 of 2 questions of the run 'mine' have no judgements" in result.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["systems"] == document["systems"]
    with (tmp_path / "values.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 3 * 7
    assert len(list((tmp_path / "runs").glob("*.trec"))) == 7


def test_runs_alone_need_no_model(run: Run, collection: Path, trec: Path) -> None:
    result = run("evaluate", "--qrels", collection / "qrels" / "test.tsv", "--run", trec, "--run", f"again={trec}")
    assert result.exit_code == 0, result.output
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert rows[0][:5] == ["system", "nDCG@10", "MRR@10", "MAP@10", "recall@100"]
    assert [row[0] for row in rows[1:]] == ["other (baseline)", "again"]
    assert rows[1][2] == "0.3333"


def test_bioasq_questions_bring_all_that_is_needed(biorerank: Run, bioasq: Path) -> None:
    result = biorerank("evaluate", "--bioasq", bioasq, "--first-stage", "lexical", "--json")
    document = _document(result)
    means = document["systems"]["lexical"]["means"]
    assert document["queries"] == 2
    assert "The collection is the 3 gold snippets of golden.json" in result.stderr
    assert means["BioASQ documents R"] == 1.0
    assert means["BioASQ snippets P"] == pytest.approx(1.0)
    assert means["BioASQ snippets R"] == pytest.approx((1 + 22 / (22 + 25 - 1)) / 2, abs=0.05)
    assert "no offsets" in document["bioasq_method"]


def test_bioasq_questions_judge_another_collection_by_text(run: Run, bioasq: Path, index_folder: Path) -> None:
    result = run("evaluate", "--bioasq", bioasq, "--index", index_folder, "--no-rerank", "--json")
    document = _document(result)
    assert list(document["systems"]) == ["hybrid"]
    assert "1 gold snippets are not in the collection" in result.stderr
    assert document["systems"]["hybrid"]["means"]["R@100"] == 0.75


@pytest.mark.parametrize(
    ("options", "said", "code"),
    [
        (["--first-stage", "sparse"], "--first-stage 'sparse' is unknown", 2),
        (["--run", "=x"], "expected NAME=FILE", 2),
        (["--run", "a=x", "--run", "a=y"], "Two runs have the same name", 2),
        (["--model", "a=x", "--model", "a=y"], "Two models have the name 'a'", 2),
        (["--model", "x", "--no-rerank"], "--model needs passages", 2),
        (["--bioasq", "x"], "not both", 2),
        (["--run", "a=absent.trec"], "There is no such file", 1),
        (["--csv", "absent/x.csv"], "cannot be written", 1),
        (["--report", "absent/out"], "cannot be written", 1),
    ],
)
def test_wrong_usage_is_one_line_before_any_work(
    run: Run, error_line: ErrorLine, collection: Path, options: list[str], said: str, code: int
) -> None:
    assert said in error_line(run("evaluate", "--beir", collection, *options), code=code)


def test_a_corpus_is_read_before_a_model_is_loaded(
    run: Run, error_line: ErrorLine, collection: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.jsonl").write_text('{"id": "a", "text": "fine"}\nbroken\n')
    options = ("--beir", collection, "--corpus", tmp_path / "bad.jsonl", "--model", "unknown")
    assert "bad.jsonl:2" in error_line(run("evaluate", *options))


def test_a_report_does_not_touch_a_folder_of_other_files(
    run: Run, error_line: ErrorLine, collection: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="the extra 'eval' is not installed")
    (tmp_path / "thesis.txt").write_text("mine")
    assert "holds other files (thesis.txt)" in error_line(run("evaluate", "--beir", collection, "--report", tmp_path))


def test_the_baseline_must_be_one_of_the_systems(biorerank: Run, error_line: ErrorLine, collection: Path) -> None:
    line = error_line(biorerank("evaluate", "--beir", collection, "--baseline", "nobody", "--quiet"))
    assert "The baseline 'nobody' is none of the systems: hybrid, hybrid+" in line
