"""Every command explains itself, quickly, with an example."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable

import pytest
import typer
from typer.testing import CliRunner, Result

import biorerank_plugins
from biorerank_plugins.cli import app

COMMANDS = (
    "demo",
    "index",
    "search",
    "rerank",
    "ask",
    "evaluate",
    "pairs",
    "train",
    "calibrate",
    "bench",
    "serve",
    "mcp",
)
HEAVY = "torch transformers sentence_transformers faiss numpy scipy sklearn lxml ir_measures tokenizers".split()


def test_all_commands_are_listed(run: Callable[..., Result]) -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert all(re.search(rf"\b{command} ", result.stdout) for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_help_with_an_example(run: Callable[..., Result], command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    words = " ".join(re.sub(r"[│╭╮╰╯─]", " ", result.stdout).split())
    assert f"Example: biorerank {command}" in words or "| biorerank rerank" in words
    for option in ("--quiet", "--debug") if command == "mcp" else ("--json", "--quiet", "--debug"):
        assert option in words


@pytest.mark.parametrize(
    "arguments", [["--help"], ["demo", "--help"], ["evaluate", "--help"], ["search", "--nonsense"]]
)
def test_help_and_usage_errors_load_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom biorerank_plugins.cli import app\n"
        f"try:\n    app({arguments!r}, prog_name='biorerank')\n"
        f"except SystemExit:\n    print('loaded:', [m for m in {HEAVY!r} if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "loaded: []"


def test_the_module_runs_without_the_entry_point() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "biorerank_plugins.cli", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "Usage: biorerank" in done.stdout


def test_the_version_is_that_of_the_package(run: Callable[..., Result]) -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"biorerank-plugins {biorerank_plugins.__version__}\n")


def test_no_command_is_wrong_usage_and_says_what_to_do_first(run: Callable[..., Result]) -> None:
    result = run()
    assert (result.exit_code, result.stdout) == (2, "")
    named = re.findall(r"^  biorerank (\w+)", result.stderr, re.MULTILINE)
    assert named[:2] == ["demo", "index"] and set(named) <= {*COMMANDS, "doctor"}


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_has_a_short_name_too(run: Callable[..., Result], command: str | None) -> None:
    before = [] if command is None else [command]
    assert run(*before, "-h").stdout == run(*before, "--help").stdout != ""


def test_a_narrow_terminal_cuts_no_name_off() -> None:
    def shown(*arguments: str) -> str:
        return CliRunner().invoke(app, [*arguments, "--help"], terminal_width=60).stdout

    assert max(map(len, shown().splitlines())) <= 60 and "..." not in shown().partition("Commands:")[2]
    for name, command in typer.main.get_command(app).commands.items():
        named = set(re.findall(r"--[\w-]+", shown(name)))
        options = {option for one in command.params for option in [*one.opts, *one.secondary_opts]}
        assert {option for option in options if option.startswith("--")} <= named


@pytest.mark.parametrize(
    ("shell", "typed", "offered"),
    [
        ("bash", {"COMP_WORDS": "biorerank se", "COMP_CWORD": "1"}, ["search", "serve"]),
        ("bash", {"COMP_WORDS": "biorerank search --min", "COMP_CWORD": "2"}, ["--min-score", "--min-probability"]),
        ("fish", {"_TYPER_COMPLETE_ARGS": "biorerank doc", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}, ["doctor"]),
    ],
)
def test_a_shell_completes_commands_and_options(shell: str, typed: dict[str, str], offered: list[str]) -> None:
    result = CliRunner().invoke(app, prog_name="biorerank", env={"_BIORERANK_COMPLETE": f"complete_{shell}", **typed})
    assert result.exit_code == 0
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == offered


@pytest.mark.parametrize(
    ("shell", "command"), [("bash", "complete -o default"), ("zsh", "compdef"), ("fish", "complete --command")]
)
def test_the_script_of_completion_is_shown(
    run: Callable[..., Result], shell: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shellingham.detect_shell", lambda: (shell, shell))  # tests may run below no shell at all
    result = run("--show-completion")
    assert result.exit_code == 0 and "_BIORERANK_COMPLETE" in result.stdout
    assert command in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["pairs", "-", "--out", "x.jsonl"],
        ["pairs", "x.jsonl", "--out", "-"],
        ["train", "-", "--out", "x"],
        ["evaluate", "--index", "x", "--queries", "-"],
        ["bench", "--data", "-"],
        ["doctor", "--index", "-"],
        ["mcp", "--index", "-"],
        ["search", "-", "question"],
    ],
)
def test_stdin_is_refused_where_it_is_not_read(
    run: Callable[..., Result], error_line: Callable[..., str], arguments: list[str]
) -> None:
    assert "- (stdin or stdout) is not taken here" in error_line(run(*arguments), code=2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serch"], "No such command 'serch'"),
        (["search", "folder", "q", "--nonsense"], "No such option: --nonsense"),
        (["search", "folder", "q", "--k", "-3"], "Invalid value for '--k'"),
        (["search", "folder", "q", "--k", "many"], "Invalid value for '--k'"),
        (["rerank", "question"], "Missing argument 'PASSAGES'"),
        (["index", "corpus.jsonl"], "Missing option '--out'"),
        (["index", "corpus.jsonl", "--out", "x", "--on-duplicate", "keep"], "Invalid value for '--on-duplicate'"),
    ],
)
def test_wrong_usage_is_one_line_that_points_to_the_help(
    run: Callable[..., Result], error_line: Callable[..., str], arguments: list[str], said: str
) -> None:
    line = error_line(run(*arguments), code=2)
    assert said in line
    assert re.search(r"See 'biorerank( \w+)? --help'\.$", line)
