"""``biorerank rerank``: passages from a file or stdin, in order of relevance."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from biorerank_plugins import BioReranker
from biorerank_plugins.readers import read_passages

Run = Callable[..., Result]
ErrorLine = Callable[..., str]

QUESTION = "what lowers glucose?"
LINES = "aspirin inhibits platelets\n\n  metformin lowers glucose \r\ninsulin binds\n"


def test_results_are_those_of_the_library(biorerank: Run, collection: Path, tiny_cross_encoder_dir: Path) -> None:
    corpus = collection / "corpus.jsonl"
    document = json.loads(biorerank("rerank", QUESTION, corpus, "--json").stdout)
    with BioReranker(str(tiny_cross_encoder_dir)) as reranker:
        expected = reranker.rank(QUESTION, list(read_passages(corpus))).to_dict()
    for got in (document, expected):
        got.pop("timings")
    assert document == expected


def test_lines_on_stdin_are_passages(biorerank: Run) -> None:
    result = biorerank("rerank", QUESTION, "-", "--json", input=LINES)
    passages = json.loads(result.stdout)["passages"]
    texts = {passage["id"]: passage["text"] for passage in passages}
    assert texts == {"1": "aspirin inhibits platelets", "2": "metformin lowers glucose", "3": "insulin binds"}
    assert [passage["rank"] for passage in passages] == [1, 2, 3]


def test_lines_of_a_text_file_are_passages(biorerank: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text(LINES, encoding="utf-8")
    from_file = biorerank("rerank", QUESTION, tmp_path / "notes.txt")
    assert from_file.stdout == biorerank("rerank", QUESTION, "-", input=LINES).stdout
    assert len(from_file.stdout.splitlines()) == 4


def test_stdin_may_be_any_format(biorerank: Run, collection: Path) -> None:
    corpus = (collection / "corpus.jsonl").read_bytes()
    result = biorerank("rerank", QUESTION, "-", "--format", "jsonl", "--json", input=corpus)
    assert {passage["id"] for passage in json.loads(result.stdout)["passages"]} == {f"p{n}" for n in range(1, 7)}


def test_only_the_best_are_kept(biorerank: Run, collection: Path) -> None:
    every = json.loads(biorerank("rerank", QUESTION, collection, "--json").stdout)["passages"]
    best = json.loads(biorerank("rerank", QUESTION, collection, "--top-k", "2", "--json").stdout)["passages"]
    assert best == every[:2]
    threshold = every[2]["score"]
    good = json.loads(biorerank("rerank", QUESTION, collection, "--min-score", threshold, "--json").stdout)
    assert len(good["passages"]) == 3
    assert good["below_threshold"] == 3


def test_malformed_lines_can_be_left_out(biorerank: Run, error_line: ErrorLine, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"id": "a", "text": "insulin"}\n{"id": "b"}\n')
    assert "corpus.jsonl:2" in error_line(biorerank("rerank", QUESTION, corpus))
    result = biorerank("rerank", QUESTION, corpus, "--skip-bad")
    assert result.exit_code == 0
    assert "1 malformed line or file was left out." in result.stderr


def test_bad_input_is_one_line(run: Run, biorerank: Run, error_line: ErrorLine, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "model").mkdir()
    assert "empty.txt holds no passages" in error_line(biorerank("rerank", QUESTION, tmp_path / "empty.txt"))
    assert "stdin holds no passages" in error_line(biorerank("rerank", QUESTION, "-", input=""))
    assert "no such file" in error_line(biorerank("rerank", QUESTION, tmp_path / "absent.jsonl"))
    assert "Embedded models:" in error_line(run("rerank", QUESTION, "-", "--model", "unknown", input="a\n"))
    assert "holds no model" in error_line(run("rerank", QUESTION, "-", "--model", tmp_path / "model", input="a\n"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["", "-"], "QUERY is empty"),
        (["q", "-", "--top-k", "-1"], "for '--top-k'"),
        (["q", "-", "--min-score", "nan"], "nan is no finite number"),
        (["q", ""], "the path is empty"),
        (["q", "-", "--second-reader", "--fusion", "1"], "exclude each other"),
        (["q", "-", "--format", "pptx"], "--format 'pptx' is unknown. Choose one of: auto, jsonl"),
    ],
)
def test_wrong_usage_is_one_line(biorerank: Run, error_line: ErrorLine, arguments: list[str], said: str) -> None:
    assert said in error_line(biorerank("rerank", *arguments, input=LINES), code=2)


def test_a_passage_cannot_drive_the_terminal(biorerank: Run, tmp_path: Path) -> None:
    evil = {"id": "i\x1bd", "title": "t\x1b]0;x\x07", "text": "a\x1b[2J\u202eb\x9b1m\nc"}
    (tmp_path / "evil.jsonl").write_text(json.dumps(evil) + "\n")
    shown = biorerank("rerank", QUESTION, tmp_path / "evil.jsonl").stdout
    assert shown.splitlines()[1].split("\t")[3:] == ["i�d", "t�]0;x�: a�[2J�b�1m c"]
    document = json.loads(biorerank("rerank", QUESTION, tmp_path / "evil.jsonl", "--json").stdout)
    assert {name: document["passages"][0][name] for name in evil} == evil


def store(folder: Path, tmp_path: Path, threshold: float | None) -> Path:
    """A copy of the model that stores a calibration."""
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    content = {"calibration": {"slope": 0.5, "intercept": -1.0, "evidence_threshold": threshold}}
    (copy / "biorerank.json").write_text(json.dumps(content), encoding="utf-8")
    return copy


def test_evidence_is_shown_instead_of_the_text(biorerank: Run, tmp_path: Path) -> None:
    line = "Cells divide. Metformin lowers glucose. The heart."
    result = biorerank("rerank", QUESTION, "-", "--evidence", "1", "--json", input=line)
    [passage] = json.loads(result.stdout)["passages"]
    [sentence] = passage["evidence"]
    assert sentence["text"] == line[sentence["start"] : sentence["end"]]
    table = biorerank("rerank", QUESTION, "-", "--evidence", "1", input=line).stdout
    assert sentence["text"] in table
    assert line not in table


def test_a_probability_is_a_threshold(biorerank: Run, collection: Path, tiny_cross_encoder_dir: Path, tmp_path: Path):
    model = store(tiny_cross_encoder_dir, tmp_path, None)
    every = json.loads(biorerank("rerank", QUESTION, collection, "--model", model, "--json").stdout)["passages"]
    threshold = every[1]["probability"]
    some = biorerank("rerank", QUESTION, collection, "--model", model, "--min-probability", threshold, "--json")
    assert len(json.loads(some.stdout)["passages"]) == 2


def test_a_second_reader_is_asked(
    biorerank: Run, collection: Path, tiny_cross_encoder_dir: Path, tiny_encoder_dir: Path, tmp_path: Path
) -> None:
    model = store(tiny_cross_encoder_dir, tmp_path, None)
    name = str(tiny_encoder_dir)
    stored = {"fusion": {name: {"weight": 3, "reference": 0.4}}, "second_reader": {"encoder": name}}
    (model / "biorerank.json").write_text(json.dumps(stored), encoding="utf-8")
    document = json.loads(
        biorerank("rerank", QUESTION, collection, "--model", model, "--second-reader", "--json").stdout
    )
    with BioReranker(str(model)) as reranker:
        expected = reranker.rank(QUESTION, list(read_passages(collection)), fusion="second-reader")
    assert [one["fused"] for one in document["passages"]] == pytest.approx([one.fused for one in expected], abs=1e-5)


@pytest.mark.parametrize(("threshold", "code"), [(0.0, 0), (1.0, 3)])
def test_without_evidence_the_exit_code_says_so(
    biorerank: Run, tiny_cross_encoder_dir: Path, tmp_path: Path, threshold: float, code: int
) -> None:
    model = store(tiny_cross_encoder_dir, tmp_path, threshold)
    result = biorerank("rerank", QUESTION, "-", "--model", model, "--abstain", input=LINES)
    assert result.exit_code == code
    assert ("No evidence" in result.stderr) == (code == 3)
    assert bool(result.stdout) == (code == 0)
    assert biorerank("rerank", QUESTION, "-", "--model", model, input=LINES).stdout


def test_abstaining_needs_a_threshold(
    biorerank: Run, error_line: ErrorLine, tiny_cross_encoder_dir: Path, tmp_path: Path
) -> None:
    model = store(tiny_cross_encoder_dir, tmp_path, None)
    result = biorerank("rerank", QUESTION, "-", "--model", model, "--abstain", input=LINES)
    assert "biorerank calibrate" in error_line(result)


def test_swapped_arguments_are_noticed(
    run: Callable[..., Result], error_line: Callable[..., str], tmp_path: Path
) -> None:
    passages = tmp_path / "my passages.txt"
    passages.write_text("p53 suppresses tumours.\n")
    line = error_line(run("rerank", passages, QUESTION), code=2)
    assert line.endswith(f"The first argument is the question: biorerank rerank '{QUESTION}' '{passages}'")
