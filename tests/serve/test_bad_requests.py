"""Whatever a client sends, it gets a status and a message, and the server goes on."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Iterator

import pytest
from support.serve import QUERY, TEXTS, Quick, Running, started

from biorerank_plugins import BioReranker
from biorerank_plugins.serve import Limits

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module", params=["httptools", "h11"])
def small(request: pytest.FixtureRequest) -> Iterator[Running]:
    """A server that takes little, with the fast parser of HTTP and without it."""
    fast = "uvicorn.protocols.http.httptools_impl"
    before = sys.modules.get(fast)
    if request.param == "httptools":
        pytest.importorskip("httptools")
    else:
        sys.modules[fast] = None  # as where it is not installed
    limits = Limits(
        max_body_bytes=10_000, max_texts=20, max_waiting=12, body_timeout=0.5, header_timeout=0.5, deadline=5
    )
    try:
        with started(BioReranker(Quick()), limits=limits) as running:
            yield running
    finally:
        if before is None:
            sys.modules.pop(fast, None)
        else:
            sys.modules[fast] = before


def _alive(running: Running) -> None:
    answer = running.client.post("/rerank", json={"query": "q", "texts": ["3", "9"]}).json()
    assert [line["index"] for line in answer] == [1, 0]


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank", "/search"])
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"[]", b"3", b'"query"', b"\xff\xfe\x00", b"{}", b"[" * 5_000, b"1" * 5_000, b'{"query": 1}'],
)
def test_malformed_bodies_are_refused(small: Running, path: str, body: bytes):
    answer = small.client.post(path, content=body, headers=JSON)
    assert answer.status_code in (400, 422), answer.text
    said = answer.json()
    assert said["message"] and said["error"] == said["message"] == said["detail"]
    assert len(answer.content) < 2_000
    _alive(small)


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/rerank", {"query": QUERY, "texts": []}, "texts"),
        ("/rerank", {"query": QUERY, "texts": [1]}, "texts.0"),
        ("/rerank", {"query": QUERY, "texts": "one"}, "texts"),
        ("/rerank", {"query": "  ", "texts": TEXTS}, "the query is empty"),
        ("/rerank", {"texts": TEXTS}, "query"),
        ("/rerank", {"query": QUERY}, "documents"),
        ("/rerank", {"query": ["a"], "documents": TEXTS}, "query"),
        ("/v1/rerank", {"query": QUERY, "documents": TEXTS, "top_n": -1}, "top_n"),
        ("/v1/rerank", {"query": QUERY, "documents": TEXTS, "top_n": 1.5}, "top_n"),
        ("/v1/rerank", {"query": QUERY, "documents": [{"image": "x"}]}, "documents.0"),
        ("/v2/rerank", {"query": QUERY, "documents": [None]}, "documents.0"),
        ("/v2/rerank", {"query": QUERY, "documents": {"a": "b"}}, "documents"),
    ],
)
def test_a_wrong_value_is_refused_by_name(server: Running, path: str, body: dict, said: str):
    answer = server.client.post(path, json=body)
    assert answer.status_code == 422
    assert said in answer.json()["message"]


def test_what_was_sent_is_not_repeated(server: Running):
    answer = server.client.post("/rerank", json={"query": QUERY, "texts": [{"patient": "J. Doe"}]})
    assert answer.status_code == 422
    assert "Doe" not in answer.text


def test_what_is_not_called_json_is_refused(server: Running):
    sent = '{"query": "q", "texts": ["a"]}'
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = server.client.post("/rerank", content=sent, headers={"content-type": kind})
        assert answer.status_code == 422
        assert "Content-Type: application/json" in answer.json()["message"]


def test_unknown_paths_methods_and_models(server: Running):
    assert server.client.get("/nothing").status_code == 404
    assert server.client.get("/rerank").status_code == 405
    for model, answers in (
        ("gpt", "tiny"),
        ("tiny", "tiny"),
        ("rerank-v3.5", "rerank-v3.5"),
        (None, "tiny"),
        ("", "tiny"),
    ):
        body = {"model": model, "query": QUERY, "documents": TEXTS}
        answer = server.client.post("/v2/rerank", json=body)
        assert (answer.status_code, answer.json()["model"]) == (200, answers)


def test_a_large_body_is_refused_before_it_is_sent(small: Running):
    with socket.create_connection(("127.0.0.1", int(small.url.rpartition(":")[2])), timeout=10) as connection:
        head = b"POST /rerank HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\nExpect: 100-continue\r\n\r\n"
        connection.sendall(head)
        assert connection.recv(4_096).startswith(b"HTTP/1.1 413 ")


def test_a_large_body_without_a_length_is_refused_while_it_is_sent(server: Running):
    import os
    from pathlib import Path

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = resident() if Path("/proc/self/statm").exists() else 0
    chunk = b" " * 1_000_000
    answer = server.client.post("/rerank", content=(chunk for _ in range(100)), headers=JSON)
    assert answer.status_code == 413
    if before:  # client and server are this process
        assert resident() - before < 60_000_000
    assert server.client.post("/rerank", json={"query": QUERY, "texts": TEXTS}).status_code == 200


def test_too_many_texts_are_too_much(small: Running):
    answer = small.client.post("/rerank", json={"query": QUERY, "texts": ["1"] * 21})
    assert (answer.status_code, answer.json()["error_type"]) == (413, "too_large")
    assert "21 texts" in answer.json()["message"] and "20" in answer.json()["message"]


def test_more_pairs_than_ever_fit_are_too_much(small: Running):
    answer = small.client.post("/rerank", json={"query": QUERY, "texts": ["1"] * 13})
    assert (answer.status_code, answer.json()["error_type"]) == (413, "too_large")
    long = small.client.post("/rerank", json={"query": QUERY, "texts": ["x" * 2_500] * 3 + ["1"] * 7})
    assert long.status_code == 413  # 3 texts that count twice
    _alive(small)


def test_a_slow_sender_is_told_so(small: Running):
    def slowly() -> Iterator[bytes]:
        yield b'{"query": "q", '
        time.sleep(0.7)
        yield b'"texts": ["1"]}'

    answer = small.client.post("/rerank", content=slowly(), headers=JSON)
    assert (answer.status_code, answer.json()["error_type"]) == (408, "slow")
    _alive(small)


def test_connections_without_headers_are_closed(small: Running):
    address = ("127.0.0.1", int(small.url.rpartition(":")[2]))
    with (
        socket.create_connection(address, timeout=10) as silent,
        socket.create_connection(address, timeout=10) as begun,
    ):
        begun.sendall(b"POST /rerank HTTP/1.1\r\nHost:")
        started_at = time.monotonic()
        for connection in (silent, begun):
            assert connection.recv(100) == b""
            assert 0.3 < time.monotonic() - started_at < 5
    _alive(small)


def test_no_more_connections_than_allowed():
    with started(BioReranker(Quick()), limits=Limits(max_connections=3)) as running:
        port = int(running.url.rpartition(":")[2])
        held = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        time.sleep(0.2)
        assert running.client.get("/health").status_code == 503
        for connection in held:
            connection.close()
        time.sleep(0.2)
        assert running.client.get("/health").status_code == 200


def test_a_model_without_finite_scores_is_an_error_and_no_nan():
    class Broken(Quick):
        def logits(self, query, texts):
            return [float("nan") if text == "bad" else 1.0 for text in texts]

    with started(BioReranker(Broken())) as running:
        answer = running.client.post("/rerank", json={"query": QUERY, "texts": ["good", "bad"]})
        assert (answer.status_code, answer.json()["error_type"]) == (500, "backend")
        assert "no finite logit" in answer.json()["message"]
        assert running.client.post("/rerank", json={"query": QUERY, "texts": ["good"]}).status_code == 200


def test_a_failing_model_tells_clients_nothing_about_the_machine():
    class Failing(Quick):
        def logits(self, query, texts):
            if query == QUERY:
                raise OSError("/secret/place is gone")
            return super().logits(query, texts)

    with started(BioReranker(Failing())) as running:
        answer = running.client.post("/rerank", json={"query": QUERY, "texts": ["1"]})
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert json.loads(answer.text)["error_type"] == "internal"
        _alive(running)
