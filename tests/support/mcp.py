"""Agents' side of the protocol: clients of the official SDK over servers of ours."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp", reason="mcp, of the extra 'mcp', is not installed")

import anyio
from mcp import Client, StdioServerParameters

from biorerank_plugins.mcp import Library, create_server
from support import ROOT

# Loaded at its first use otherwise, and rewritten by pytest then, while other threads compile too: CPython 3.11 fails.
_ = anyio.open_process


def asked(library: Library, talk: Callable[[Client], Awaitable[Any]]) -> Any:
    """Let a client of this process talk to a server over a library; return what it found."""

    async def meet() -> tuple[Any, Exception | None]:
        async with Client(create_server(library)) as client:
            try:
                return await talk(client), None
            except Exception as error:  # raised here, it would come out as a group
                return None, error

    found, error = asyncio.run(meet())
    if error is not None:
        raise error
    return found


def called(library: Library, tool: str, **arguments: Any) -> Any:
    """Return what a tool gives."""
    return asked(library, lambda client: client.call_tool(tool, arguments))


def command_line(index: Path, model: Path) -> list[str]:
    """Return the arguments of a Python that serves an index over stdin and stdout."""
    return ["-m", "biorerank_plugins.cli", "mcp", "--index", str(index), "--model", str(model), "--device", "cpu"]


def as_clients_start_it(index: Path, model: Path, *more: str) -> StdioServerParameters:
    """Return the server as a client's configuration names it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return StdioServerParameters(command=sys.executable, args=[*command_line(index, model), *more], env=environment)


@contextmanager
def http_server(index: Path, model: Path) -> Iterator[str]:
    """Serve an index over HTTP in another process until the body ends; give the address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = [sys.executable, *command_line(index, model), "--http", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(arguments, env=environment, **streams) as server:
        try:
            _wait_for(port, server)
            yield f"http://127.0.0.1:{port}/mcp"
        finally:
            server.terminate()
            out, log = server.communicate(timeout=60)
    assert out == "" and f"http://127.0.0.1:{port}/mcp" in log


def _wait_for(port: int, server: subprocess.Popen[str]) -> None:
    while server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    pytest.fail(str(server.communicate()))
