"""The command as clients run it: over stdin and stdout, and over HTTP; nothing but the protocol on stdout."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from support.mcp import as_clients_start_it
from support.serve import QUERY
from typer.testing import CliRunner

from biorerank_plugins import BioReranker, TwoStageSearch
from biorerank_plugins.cli import app


def test_a_client_over_stdin_and_stdout(index_dir: Path, tiny_cross_encoder_dir: Path, search: TwoStageSearch):
    from mcp import Client

    strange: list[object] = []

    async def listen(message: object) -> None:
        strange.append(message)  # a line on stdout that is not of the protocol comes here as an exception

    async def talk() -> tuple[Any, Any]:
        server = as_clients_start_it(index_dir, tiny_cross_encoder_dir, "--debug")
        async with Client(server, message_handler=listen, mode="legacy") as client:
            found = await client.call_tool("search_evidence", {"question": QUERY, "k": 2})
            missing = await client.call_tool("get_passage", {"id": "p99"})
            return found, missing

    found, missing = asyncio.run(talk())
    expected = [ranked.passage.id for ranked in search.search(QUERY, top_k=2)]
    assert [one["id"] for one in found.structured_content["passages"]] == expected
    assert missing.is_error
    assert strange == []


def test_a_client_over_http(http_url: str, oracle: BioReranker):
    from mcp import Client

    async def talk() -> Any:
        async with Client(http_url) as client:
            return await client.call_tool("rerank", {"question": QUERY, "passages": ["a cell", "p53"]})

    found = asyncio.run(talk()).structured_content["passages"]
    assert [one["index"] for one in found] == [ranked.input_index for ranked in oracle.rank(QUERY, ["a cell", "p53"])]


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}])
def test_pages_elsewhere_may_not_call(http_url: str, headers: dict[str, str]):
    import httpx

    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    accepted = {"Accept": "application/json, text/event-stream"}
    assert httpx.post(http_url, json=request, headers=accepted | headers).status_code in (403, 421)


def test_a_port_that_is_taken(index_dir: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(app, ["mcp", "--index", str(index_dir), "--http", "--port", str(port)])
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"port {port}" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "Missing option '--index'"),
        (["--index", "no-such-folder"], 1, "biorerank index"),
        (["--index", "x", "--port", "9000"], 2, "--port is for --http"),
        (["--index", "x", "--http", "--port", "70000"], 2, "--port"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_served(arguments: list[str], code: int, said: str):
    result = CliRunner().invoke(app, ["mcp", *arguments])
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr.splitlines()[-1]
