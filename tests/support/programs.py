"""Programs of this repository from their command line, but in this process: imports are paid for once."""

from __future__ import annotations

import io
import os
import runpy
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from subprocess import CompletedProcess
from unittest import mock


def run_program(path: Path, *arguments: object, environment: Mapping[str, str] | None = None) -> CompletedProcess[str]:
    """Run a program from its first line to its exit, and return what it wrote.

    :param path: the program.
    :param arguments: of its command line.
    :param environment: all variables that it sees; ``None`` for those of this process.
    """
    argv = [str(path), *map(str, arguments)]
    out, err, code = io.StringIO(), io.StringIO(), 0
    variables = dict(os.environ if environment is None else environment)
    with (
        mock.patch.object(sys, "argv", argv),
        mock.patch.object(sys, "path", [str(path.parent), *sys.path]),
        mock.patch.dict(os.environ, variables, clear=True),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return CompletedProcess(argv, code, out.getvalue(), err.getvalue())
