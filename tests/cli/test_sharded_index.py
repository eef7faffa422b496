"""Sharded indexes on the command line: built, searched, served by halves, brought up to date."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Run = Callable[..., Result]
ErrorLine = Callable[..., str]
QUESTION = "what lowers glucose?"


@pytest.fixture
def sharded(biorerank: Run, collection: Path, tmp_path: Path) -> Path:
    result = biorerank("index", collection, "--out", tmp_path / "shards", "--shards", 2, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["shards"] == 2
    assert json.loads(result.stdout)["passages"] == 6
    return tmp_path / "shards"


@pytest.mark.parametrize("options", [["--no-rerank"], [], ["--device", "cpu", "--dtype", "float32"]])
def test_shards_answer_as_one_index_does(biorerank: Run, collection: Path, sharded: Path, tmp_path: Path, options):
    assert biorerank("index", collection, "--out", tmp_path / "one").exit_code == 0
    ours, one = (
        json.loads(biorerank("search", folder, QUESTION, "--json", *options).stdout)
        for folder in (sharded, tmp_path / "one")
    )
    assert [line["id"] for line in ours["passages"]] == [line["id"] for line in one["passages"]]
    assert [line["score"] for line in ours["passages"]] == pytest.approx(
        [line["score"] for line in one["passages"]], abs=1e-5
    )
    assert "missing_shards" not in ours


@pytest.mark.parametrize("options", [["--no-rerank"], []])
def test_a_lost_shard_is_an_error_or_named(biorerank: Run, error_line: ErrorLine, sharded: Path, options):
    shutil.rmtree(sharded / "shard-0000")
    assert "shard-0000 cannot be opened" in error_line(biorerank("search", sharded, QUESTION, *options))
    result = biorerank("search", sharded, QUESTION, "--partial", "--json", *options)
    assert json.loads(result.stdout)["missing_shards"] == ["shard-0000"]
    assert "partial: shard-0000" in result.stderr


def test_it_is_not_added_to_or_overwritten(
    biorerank: Run, error_line: ErrorLine, collection: Path, sharded: Path, tmp_path: Path
):
    for options in (["--add"], ["--overwrite"], ["--shards", 2]):
        result = biorerank("index", collection, "--out", sharded, *options)
        assert "--update changes it" in error_line(result)
    result = biorerank("index", collection, "--out", tmp_path / "new", "--shards", 2, "--add")
    assert "builds a new index" in error_line(result, code=2)
    result = biorerank("index", collection, "--out", tmp_path / "new", "--shards", 9)
    assert "Take fewer shards" in error_line(result)


def test_it_is_brought_up_to_date(biorerank: Run, error_line: ErrorLine, sharded: Path, tmp_path: Path):
    (tmp_path / "new.jsonl").write_text('{"_id": "new", "text": "zebrafish regenerate fins"}\n')
    result = biorerank("index", tmp_path / "new.jsonl", "--out", sharded, "--update", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["passages"], told["added"], told["replaced"]) == (7, 1, 0)
    found = json.loads(biorerank("search", sharded, "zebrafish fins", "--no-rerank", "--json").stdout)
    assert found["passages"][0]["id"] == "new"
    shutil.rmtree(next(sharded.glob("shard-0001*")))
    assert "shard-0001 cannot be opened" in error_line(
        biorerank("index", tmp_path / "new.jsonl", "--out", sharded, "--update")
    )
