"""Every way a command can end: exit code, one line, no traceback."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner, Result

from biorerank_plugins.cli.one_line_errors import command
from biorerank_plugins.cli.output import Output
from biorerank_plugins.errors import ReaderError


def _end_by(error: BaseException | None, *arguments: str) -> Result:
    app = typer.Typer()

    @app.command()
    @command
    def only(*, output: Output) -> None:
        """Do something."""
        if error is not None:
            raise error

    return CliRunner().invoke(app, list(arguments))


def test_success_is_silent() -> None:
    result = _end_by(None)
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ReaderError("No text.", "corpus.jsonl", 3), "Error: corpus.jsonl:3: No text.\n"),
        (FileNotFoundError(2, "No such file or directory", "a.txt"), "Error: a.txt: No such file or directory\n"),
        (OSError(28, "No space left on device"), "Error: No space left on device\n"),
        (KeyError(3), "Error: KeyError: 3 (unexpected; --debug shows where)\n"),
        (RuntimeError("two\n\nlines"), "Error: RuntimeError: two lines (unexpected; --debug shows where)\n"),
    ],
)
def test_an_error_is_one_line(error: Exception, line: str) -> None:
    result = _end_by(error)
    assert (result.exit_code, result.stderr, result.stdout) == (1, line, "")


def test_a_wrong_argument_that_the_package_refuses_is_no_surprise() -> None:
    from biorerank_plugins.evaluation import compare

    try:
        compare({}, {})
    except ValueError as error:
        assert "unexpected" not in _end_by_raising_again(error).stderr
    foreign = _end_by(ValueError("from elsewhere"))
    assert foreign.stderr == "Error: ValueError: from elsewhere (unexpected; --debug shows where)\n"


def _end_by_raising_again(error: ValueError) -> Result:
    # Raised again, the traceback still ends inside the package.
    return _end_by(error)


def test_debug_shows_the_traceback_before_the_line() -> None:
    result = _end_by(RuntimeError("no"), "--debug")
    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback (most recent call last)")
    assert result.stderr.splitlines()[-1].startswith("Error: RuntimeError: no")


def test_a_long_message_stays_readable() -> None:
    assert len(_end_by(ReaderError("x" * 10_000)).stderr) < 700


def test_ctrl_c_is_130() -> None:
    result = _end_by(KeyboardInterrupt())
    assert (result.exit_code, result.stderr) == (130, "Interrupted.\n")


@pytest.mark.parametrize("arguments", [["--help"], ["rerank", "--help"]])
def test_a_reader_that_goes_away_ends_the_command_quietly(arguments: list[str]) -> None:
    """As ``biorerank … | true`` does: the pipe is closed before anything is written."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "biorerank_plugins.cli", *arguments],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.returncode in (0, 1)
    assert done.stderr == ""


def test_the_head_of_a_help_text_leaves_no_message() -> None:
    """The reader goes away while the command is still writing or shutting down."""
    command = f"{shlex.quote(sys.executable)} -m biorerank_plugins.cli index --help | head -n 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""


def test_libraries_only_speak_of_errors() -> None:
    """Unless the user has chosen a level by the libraries' own variables."""
    names = ("huggingface_hub", "transformers", "sentence_transformers")
    script = (
        "import logging\n"
        "from biorerank_plugins.cli.loading import quiet_libraries\n"
        "quiet_libraries()\n"
        f"print([logging.getLevelName(logging.getLogger(name).level) for name in {names}])\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_VERBOSITY")}
    for more, levels in (({}, ["ERROR"] * 3), ({"TRANSFORMERS_VERBOSITY": "info"}, ["ERROR", "INFO", "NOTSET"])):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env={**environment, **more}, timeout=60
        )
        assert done.stdout == f"{levels}\n", done.stderr
