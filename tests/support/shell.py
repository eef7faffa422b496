"""Shell blocks run by a real shell, in which ``biorerank`` is this process: models load once, not once a command."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager
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
    """A bash whose PATH begins with our command and this Python's folder.

    :param commands: the folder of commands.
    :param calls: where a command asks this process to run.
    """

    def __init__(self, commands: Path, calls: socket.socket) -> None:
        self._commands = commands
        self._calls = calls
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
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
            script = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", code],
                cwd=folder,
                env={**os.environ, "PATH": self._path, **environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
            )
            # Here and not in a thread of its own: models belong to the thread in which everything else uses them.
            while script.poll() is None:
                if select.select([self._calls], [], [], 0.02)[0]:
                    _answer(self._calls)
            said, complained = (stream.seek(0) or stream.read().decode() for stream in (out, errors))
        assert script.returncode == 0, f"{code}\nexit code {script.returncode}\n{said}{complained}"
        return said


@contextmanager
def shell(folder: Path) -> Iterator[Shell]:
    """Give a shell.

    :param folder: an empty one, for the commands.
    """
    with socket.create_server(("127.0.0.1", 0)) as calls:
        client = _CLIENT.format(python=sys.executable, own=_IN_ITS_OWN_PROCESS, port=calls.getsockname()[1])
        for name, text in (("biorerank", client), ("python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')):
            (folder / name).write_text(text, encoding="utf-8")
            (folder / name).chmod(0o755)
        yield Shell(folder, calls)


def _answer(calls: socket.socket) -> None:
    line, _ = calls.accept()
    with line, line.makefile("rb") as asked:
        line.sendall(json.dumps(_done(json.loads(asked.read()))).encode())


def _done(call: dict[str, Any]) -> dict[str, Any]:
    from biorerank_plugins.cli import app

    with chdir(call["folder"]):
        result = CliRunner().invoke(app, call["arguments"], input=call["input"], prog_name="biorerank")
    unexpected = "" if isinstance(result.exception, (SystemExit, type(None))) else repr(result.exception)
    return {"out": result.stdout, "err": result.stderr + unexpected, "code": result.exit_code}
