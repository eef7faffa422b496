"""``biorerank serve``: what is wrong is said before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import support.serve
from typer.testing import CliRunner

from biorerank_plugins.cli import app


def _error(*arguments: object, code: int = 1) -> str:
    result = CliRunner().invoke(app, ["serve", *map(str, arguments)])
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    line = result.stderr.splitlines()[-1]
    assert line.startswith("Error: ")
    return line


def test_a_folder_that_is_no_index(tmp_path: Path):
    assert "biorerank index" in _error("--index", tmp_path)


def test_a_model_that_is_none(tmp_path: Path):
    assert "no model" in _error("--model", tmp_path, "--port", 0)


def test_a_port_that_is_taken(server: support.serve.Running):
    port = server.url.rpartition(":")[2]
    assert f"port {port}" in _error("--port", port)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "70000"], "--port"),
        (["--max-waiting", "0"], "--max-waiting"),
        (["--api-key", "  "], "--api-key"),
        (["--deadline", "0"], "--deadline"),
        (["--first-stage", "sparse"], "--first-stage"),
        (["--ray", "2", "--port", "0"], "--port"),
        (["--ray", "2", "--drain-delay", "3"], "--drain-delay"),
    ],
)
def test_an_impossible_option(arguments: list[str], said: str):
    assert said in _error(*arguments, code=2)
