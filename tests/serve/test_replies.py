"""Replies that nobody reads: bounded in time, and in bytes over all connections; those that are read come whole."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.serve import Running, started

from biorerank_plugins import BioReranker
from biorerank_plugins.serve import Limits
from biorerank_plugins.testing import ScriptedScorer

BODY = json.dumps({"query": "q", "documents": ["x" * 500_000] * 16, "return_documents": True}).encode()
HEAD = f"POST /v2/rerank HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"


pytestmark = pytest.mark.skipif(not Path("/proc/net/tcp").is_file(), reason="needs Linux")


@pytest.fixture(scope="module", params=["fast protocol", "slow protocol"])
def server(request: pytest.FixtureRequest) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "slow protocol":
            patch.setitem(sys.modules, "uvicorn.protocols.http.httptools_impl", None)
        limits = Limits(reply_timeout=0.3, max_waiting=100_000)
        scorer = ScriptedScorer(lambda query, text: 1.0)
        with started(BioReranker(scorer), limits=limits) as running:
            yield running


def ask(server: Running) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])))
    client.sendall(HEAD.encode() + BODY)
    return client


def is_open(client: socket.socket) -> bool:
    """Whether the server's end of a connection is; the kernel knows, the client does not before it has read."""
    ours, theirs = (f":{end[1]:04X}" for end in (client.getsockname(), client.getpeername()))
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(line[1].endswith(theirs) and line[2].endswith(ours) and line[3] == "01" for line in lines)


def read(client: socket.socket) -> bytes:
    parts = []
    client.settimeout(60)
    while not parts or sum(map(len, parts)) < len(BODY):
        part = client.recv(1 << 20)
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


def test_a_client_that_does_not_read_is_cut_off(server: Running):
    with ask(server) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        assert is_open(client)
        while is_open(client):  # pytest's own timeout ends this, if nothing does
            time.sleep(0.05)
    assert server.client.get("/health").status_code == 200


def test_a_client_that_reads_gets_all_of_it(server: Running):
    with ask(server) as client:
        assert len(read(client)) >= 8_000_000
