"""Programs in processes of their own, which need not import torch and transformers again: that takes seconds.

One process imports them, and nothing of this package. It computes nothing and starts no thread, but forks a child for
every program, to which all is as in a process that has just begun: it may start threads, fork, and end as it likes.

Run as a program: one JSON request a line comes on stdin, one exit status a line goes to stdout.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

SECONDS = 240  # that a program may take


# Libraries read these once, when they are loaded: two threads for OpenMP, and no GPU, which a fork would lose.
_FIXED = {"OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": ""}


def run_fresh(program: str, *arguments: object) -> CompletedProcess[str]:
    """Run a program as ``python -c`` does, with two threads for OpenMP and without a GPU, and return what it wrote.

    :param arguments: of its command line.
    """
    argv = ["-c", *map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        request = {"program": program, "argv": argv, "environment": _environment(), "folder": folder}
        status = _imported().ask(request)
        out, err = ((Path(folder) / name).read_text(encoding="utf-8") for name in ("out", "err"))
    return CompletedProcess(argv, status, out, err)


def _environment() -> dict[str, str]:
    """Return the variables of this process now, but for its allocator and what is fixed."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"} | _FIXED


class _Imported:
    """The process that has imported everything, until this one ends."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment()
        )

    def ask(self, request: Mapping[str, Any]) -> int:
        """Run a program, and return its exit status; that of a signal is negative."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())


_imported = functools.cache(_Imported)


def _import() -> None:
    import gc

    import faiss
    import sentence_transformers
    import torch
    import transformers.models.bert.modeling_bert
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    del faiss, sentence_transformers, torch, transformers, AutoModelForSequenceClassification, AutoTokenizer
    gc.freeze()  # a collection in a child need not copy all of it


def _next_program() -> dict[str, Any]:
    """Fork a child for every request, in which it is returned; end when there are no more."""
    while line := sys.stdin.readline():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on, about threads of BLAS that only wait
            child = os.fork()
        if not child:
            return dict(json.loads(line))
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()
    os._exit(0)  # taking apart what was imported takes half a second


def _become(request: Mapping[str, Any]) -> None:
    """Take a program's arguments, variables and files instead of those of the process that imported."""
    folder = Path(request["folder"])
    for descriptor, path in enumerate((os.devnull, folder / "out", folder / "err")):
        opened = os.open(path, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.argv[:] = request["argv"]
    sys.path[0] = ""
    os.environ.clear()
    os.environ.update(request["environment"])
    signal.alarm(SECONDS)


if __name__ == "__main__":
    _import()
    _request = _next_program()
    _become(_request)
    exec(compile(_request["program"], "<program>", "exec"))  # here, where a program's own globals are
