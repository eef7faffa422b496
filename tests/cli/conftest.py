"""A small collection on disk, an index of it, and a way to run commands."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer import testing
from typer.testing import CliRunner, Result

from biorerank_plugins.cli import app

# Making click's commands of ours takes 20 ms, a tenth of what a test of a command takes.
testing._get_command = functools.cache(testing._get_command)

PASSAGES: list[dict[str, Any]] = [
    {"_id": "p1", "title": "TP53", "text": "p53 suppresses tumours.", "metadata": {"year": 2010, "pmid": "101"}},
    {"_id": "p2", "title": "", "text": "aspirin inhibits platelets.", "metadata": {"year": 2015, "pmid": "102"}},
    {"_id": "p3", "title": "Metformin", "text": "metformin lowers glucose.", "metadata": {"year": 2018, "pmid": "103"}},
    {"_id": "p4", "title": "", "text": "insulin binds the receptor.", "metadata": {"year": 2020, "pmid": "104"}},
    {"_id": "p5", "title": "BRCA1", "text": "brca1 mutation raises cancer risk.", "metadata": {"year": 2021}},
    {"_id": "p6", "title": "", "text": "a trial of the dose in heart failure.", "metadata": {"year": 2022}},
]
QUERIES = [
    {"_id": "q1", "text": "does p53 suppress tumours?"},
    {"_id": "q2", "text": "what lowers glucose?"},
    {"_id": "q3", "text": "which drug inhibits platelets?"},
]
QRELS = "query-id\tcorpus-id\tscore\nq1\tp1\t2\nq2\tp3\t2\nq2\tp4\t1\nq3\tp2\t2\n"


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a collection in BEIR's layout."""
    folder = tmp_path_factory.mktemp("beir")
    for name, records in (("corpus.jsonl", PASSAGES), ("queries.jsonl", QUERIES)):
        lines = [json.dumps(record) for record in records]
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text(QRELS, encoding="utf-8")
    return folder


def _run(*arguments: object, input: str | bytes | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=input)


@pytest.fixture(scope="session")
def run() -> Callable[..., Result]:
    """Run a command in this process."""
    return _run


@pytest.fixture
def biorerank(tiny_encoder_dir: Path, tiny_cross_encoder_dir: Path) -> Callable[..., Result]:
    """Run a command with the tiny models where it takes a model."""
    encoder, model = ("--encoder", tiny_encoder_dir), ("--model", tiny_cross_encoder_dir)
    options = {"index": encoder, "search": model, "rerank": model}
    options["demo"] = options["evaluate"] = (*encoder, *model)

    def invoke(command: str, *arguments: object, input: str | bytes | None = None) -> Result:
        return _run(command, *options[command], *arguments, input=input)

    return invoke


@pytest.fixture(scope="session")
def index_folder(collection: Path, tiny_encoder_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an index of the collection, made by the command; tests do not change it."""
    folder = tmp_path_factory.mktemp("indexes") / "index"
    result = _run("index", collection, "--out", folder, "--encoder", tiny_encoder_dir)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="session")
def other_encoder_dir(tiny_encoder_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of another model: a copy whose files are not the same, byte by byte."""
    folder = tmp_path_factory.mktemp("models") / "other-encoder"
    shutil.copytree(tiny_encoder_dir, folder)
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    return folder


@pytest.fixture(scope="session")
def error_line() -> Callable[..., str]:
    """Return the one line that an error is, after checking that it is one."""

    def only_line(result: Result, *, code: int = 1) -> str:
        assert result.exit_code == code, result.output
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
        assert len(lines) == 1, result.stderr
        assert result.stderr.splitlines()[-1] == lines[0]
        return lines[0]

    return only_line
