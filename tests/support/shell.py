"""Shell blocks run by a real shell, in which ``biorerank`` is this process: models load once, not once a command."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

__all__ = ["Shell", "shell"]

_IN_ITS_OWN_PROCESS = ["serve", "mcp"]  # which stay, and are stopped by signals
_CLIENT = """#!{python} -IS
import json, os, socket, sys
if sys.argv[1:2] and sys.argv[1] in {own}:
    os.execv({python!r}, [{python!r}, "-m", "biorerank_plugins.cli", *sys.argv[1:]])
call = {{"arguments": sys.argv[1:], "folder": os.getcwd(), "input": "" if sys.stdin.isatty() else sys.stdin.read()}}
with socket.create_connection(("127.0.0.1", {port})) as line:
    line.sendall(json.dumps(call).encode())
    line.shutdown(socket.SHUT_WR)
    with line.makefile("rb") as answer:
        done = json.loads(answer.read())
for stream, text in ((sys.stdout, done["out"]), (sys.stderr, done["err"])):
    stream.reconfigure(encoding="utf-8")
    stream.write(text)
    stream.flush()
sys.exit(done["code"])
"""


class Shell:
    """A bash whose PATH begins with our command and this Python's folder."""

    def __init__(self, commands: Path) -> None:
        self._commands = commands
        self._path = os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]])

    def prepare(self, folder: Path) -> None:
        """Make the commands of ``.venv/bin`` there, as pages name them after a set-up.

        :param folder: where scripts will run.
        """
        (folder / ".venv").mkdir()
        (folder / ".venv" / "bin").symlink_to(self._commands)

    def run(self, code: str, folder: Path, **environment: str) -> str:
        """Run a script; it must succeed.

        :param code: the script.
        :param folder: where it runs.
        :param environment: variables beside those of this process.
        :returns: what it wrote on standard output.
        """
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", code],
            cwd=folder,
            env={**os.environ, "PATH": self._path, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, f"{code}\nexit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout


@contextmanager
def shell(folder: Path) -> Iterator[Shell]:
    """Give a shell.

    :param folder: an empty one, for the command.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        text = _CLIENT.format(python=sys.executable, own=_IN_ITS_OWN_PROCESS, port=server.getsockname()[1])
        (folder / "biorerank").write_text(text, encoding="utf-8")
        (folder / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
        for command in ("biorerank", "python"):
            (folder / command).chmod(0o755)
        answering = threading.Thread(target=_answer_calls, args=(server,), daemon=True)
        answering.start()
        yield Shell(folder)
        with socket.create_connection(server.getsockname()) as line:  # an empty call ends it
            line.shutdown(socket.SHUT_WR)
        answering.join()


def _answer_calls(server: socket.socket) -> None:
    while True:
        line, _ = server.accept()
        with line, line.makefile("rb") as asked:
            call = asked.read()
            if not call:
                return
            line.sendall(json.dumps(_done(json.loads(call))).encode())


def _done(call: dict[str, Any]) -> dict[str, Any]:
    from biorerank_plugins.cli import app

    before = os.getcwd()
    os.chdir(call["folder"])
    try:
        result = CliRunner().invoke(app, call["arguments"], input=call["input"], prog_name="biorerank")
    finally:
        os.chdir(before)
    unexpected = result.exception if not isinstance(result.exception, (SystemExit, type(None))) else ""
    return {
        "out": result.stdout,
        "err": f"{result.stderr}{unexpected!r}" if unexpected else result.stderr,
        "code": result.exit_code,
    }
