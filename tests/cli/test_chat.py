"""``biorerank ask`` as a chat: on a terminal of its own, and from a pipe; with a language model that fails."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.openai_server import Serving, serving

from biorerank_plugins import BiEncoder, Passage, PassageIndex

pty = pytest.importorskip("pty")  # not on Windows

QUESTION = "what lowers glucose?"
ESCAPE = "\x1b]0;taken\x07\x1b[2J"


@pytest.fixture(scope="module")
def folder(tiny_encoder_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = ["metformin lowers glucose.", f"glucose is {ESCAPE} high in diabetes.", "aspirin inhibits platelets."]
    path = tmp_path_factory.mktemp("chat") / "index"
    passages = [Passage(f"p{number}", text, "Metformin") for number, text in enumerate(texts)]
    with PassageIndex.build(passages, encoder=BiEncoder(tiny_encoder_dir, device="cpu")) as index:
        index.save(path)
    return path


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    with serving() as running:
        yield running


# Chats one after another in one process, as their commands begin and end them: what is imported is imported once.
CHATS = """
import json, sys
from biorerank_plugins.cli import main
for arguments in json.loads(sys.argv.pop()):
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as end:
        print(f"exit code {end.code}")
"""


def chat(folder: Path, model: Path, *options: object) -> list[str]:
    """Return the arguments of ``biorerank`` for a chat."""
    return [str(part) for part in ("ask", folder, "--model", model, "--device", "cpu", *options)]


def command(*chats: list[str]) -> list[str]:
    return [sys.executable, "-c", CHATS, json.dumps(chats)]


def variables(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BIORERANK", "NO_COLOR", "CI"))}
    return {**kept, "HF_HUB_OFFLINE": "1", "TERM": "xterm-256color", "COLUMNS": "100", **more}


class Terminal:
    """A person at a terminal."""

    def __init__(self, arguments: list[str], **more: str) -> None:
        self.process, self.end = os.forkpty()
        if self.process == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # tests that run in the background ignore it
            os.execvpe(arguments[0], arguments, variables(**more))
        self.seen = ""

    def until(self, pattern: str, seconds: float = 60.0) -> str:
        """Read until something is shown; return what was shown since the last call."""
        limit, begun = time.monotonic() + seconds, len(self.seen)
        while not re.search(pattern, self.seen[begun:]):
            assert time.monotonic() < limit, f"{pattern!r} did not come:\n{self.seen[begun:]}"
            if select.select([self.end], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.end, 65536).decode("utf-8", "replace")
                except OSError:  # the program is gone
                    assert re.search(pattern, self.seen[begun:]), self.seen[begun:]
                    break
        return self.seen[begun:]

    def type(self, keys: str) -> None:
        data = keys.encode()
        while data:
            data = data[os.write(self.end, data) :]

    def leave(self) -> None:
        """End a chat with Ctrl-D."""
        self.type("\x04")
        self.until("exit code 0")

    def wait(self) -> int:
        """Return the exit code of the process."""
        limit = time.monotonic() + 60
        while time.monotonic() < limit:
            done, status = os.waitpid(self.process, os.WNOHANG)
            if done:
                os.close(self.end)
                return os.waitstatus_to_exitcode(status)
            if select.select([self.end], [], [], 0.1)[0]:
                try:
                    os.read(self.end, 65536)
                except OSError:  # the terminal is closed; the program ends in a moment
                    time.sleep(0.05)
        os.kill(self.process, signal.SIGKILL)
        raise AssertionError("It did not end.")


def test_chats_on_a_terminal(folder: Path, tiny_cross_encoder_dir: Path, server: Serving, tmp_path: Path):
    history = tmp_path / "history"
    person = Terminal(
        command(
            chat(folder, tiny_cross_encoder_dir, "--history", history),
            chat(folder, tiny_cross_encoder_dir, "--llm", server.url, "--llm-model", "m"),
        ),
        BIORERANK_LLM_TIMEOUT="30",
    )
    person.until(r"\? ")
    _questions_one_after_another(person)
    person.leave()
    assert QUESTION in history.read_text()
    assert history.stat().st_mode & 0o777 == 0o600
    person.until(r"\? $")
    _ctrl_c_goes_back_to_the_prompt(person, server)
    person.leave()
    assert person.wait() == 0


def _questions_one_after_another(person: Terminal) -> None:
    person.type(f"{QUESTION}\n")
    shown = person.until(r"\? $")
    assert "metformin lowers glucose." in shown
    assert re.search(r"\x1b\[[\d;]*1[\d;]*m", shown), "the evidence is highlighted"
    person.type("\n")
    assert "Type a question" in person.until(r"\? $")
    person.type(":ranking\n")
    assert re.search(r"1\. [█░]{10} 0\.\d\d", person.until(r"\? $"))
    person.type(":show 1\n")
    person.until(r"\? $")
    person.type(":nothing\n")
    assert "There is no :nothing" in person.until(r"\? $")
    person.type("\x1b[A\x1b[A\x1b[A\x1b[A\n")  # arrow up, to the first question
    assert "metformin lowers glucose." in person.until(r"\? $")
    person.type(":history\n")
    assert f"2. {QUESTION}" in person.until(r"\? $")
    assert ESCAPE not in person.seen and "\x1b]0;" not in person.seen


def _ctrl_c_goes_back_to_the_prompt(person: Terminal, server: Serving) -> None:
    person.type(f"{QUESTION} (slow)\n")
    assert server.silent.wait(60)
    person.type("\x03")
    assert "Stopped. Ask again" in person.until(r"\? $", seconds=10)
    person.type(f"{QUESTION}\n")
    shown = person.until(r"\? $")
    assert "It does so in minutes [1]." in shown
    assert "Removed [9]" in shown


@pytest.mark.slow
def test_a_narrow_terminal_without_colours(folder: Path, tiny_cross_encoder_dir: Path):
    person = Terminal(command(chat(folder, tiny_cross_encoder_dir)), COLUMNS="40", NO_COLOR="1")
    person.until(r"\? $")
    person.type(f"{QUESTION}\n")
    shown = person.until(r"\? $")
    assert not re.search(r"\x1b\[[\d;]*3\dm", shown), "no colours"
    sources = shown.split("[1]", 2)[-1].replace("\r", "").split("\n")
    assert max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in sources) <= 40
    person.leave()
    assert person.wait() == 0


def test_a_pipe_of_odd_questions(run, folder: Path, tiny_cross_encoder_dir: Path):
    """Each line is answered; a broken letter, a page of text and another language do not end the session."""
    questions = [QUESTION.encode(), b"\xff\xfe broken?", b"x " * 5000, b"Welche Mittel senken den Zucker?", b""]
    done = run("ask", folder, "--model", tiny_cross_encoder_dir, "--json", input=b"\n".join(questions) + b"\n")
    assert done.exit_code == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [("answer" in one) for one in answers] == [True] * 4
    assert answers[0]["query"] == QUESTION
    said = done.stderr
    assert "10,000 characters" in said or "9,999 characters" in said
    assert "read English" in said


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("(cut off)", "broke off"),
        ("(error)", "HTTP 500"),
        ("(key)", "BIORERANK_LLM_KEY"),
        ("(busy)", "ask again later"),
        ("(no model)", "There is no model m"),
        ("(empty)", "empty answer"),
        ("(html)", "OpenAI's protocol"),
        ("(no json)", "OpenAI's protocol"),
        ("(too long)", "limit of tokens"),
        ("(slow)", "silent for 1 s"),
    ],
)
def test_a_model_that_fails_leaves_the_evidence(
    run, folder: Path, tiny_cross_encoder_dir: Path, server: Serving, word: str, said: str, monkeypatch
):
    monkeypatch.setenv("BIORERANK_LLM_TIMEOUT", "1")
    monkeypatch.setenv("BIORERANK_LLM_KEY", "a-secret-key")
    options = ("--model", tiny_cross_encoder_dir, "--llm", server.url, "--llm-model", "m")
    result = run("ask", folder, f"{QUESTION} {word}", *options)
    assert result.exit_code == 0, result.output
    assert said in " ".join(result.stderr.split())
    assert "The passages themselves say:" in result.stdout
    assert "metformin lowers glucose." in result.stdout
    assert "a-secret-key" not in result.output
    assert "Traceback" not in result.output


def test_nobody_answers_at_the_address(run, folder: Path, tiny_cross_encoder_dir: Path):
    options = ("--model", tiny_cross_encoder_dir, "--llm", "http://127.0.0.1:9/v1", "--llm-model", "m")
    result = run("ask", folder, QUESTION, *options, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert "No language model answers" in document["written"]["error"]
    assert document["quotes"]
