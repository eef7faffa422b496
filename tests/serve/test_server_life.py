"""Keys, load, leaving clients, deadlines, warming up and stopping."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from support.serve import QUERY, Quick, Running, Slow, order_of, started

from biorerank_plugins import BioReranker
from biorerank_plugins._common.ports import listen
from biorerank_plugins.errors import ModelError, ScoringTimeoutError
from biorerank_plugins.serve import Engine, Limits, Server, create_app
from biorerank_plugins.testing import ScriptedScorer

BODY = {"query": QUERY, "texts": ["1", "22", "333"]}


def _eventually(true, seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_key_is_asked_for_where_there_is_one():
    with started(BioReranker(Quick()), api_key="sesame ö") as running:
        right = {"authorization": "Bearer sesame ö".encode()}
        for headers in (
            {},
            {"authorization": "Bearer sesam"},
            {"authorization": "Basic sesame"},
            {"authorization": ""},
        ):
            for path in ("/rerank", "/v1/rerank", "/v2/rerank", "/search"):
                answer = running.client.post(path, json=BODY, headers=headers)
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert running.client.get("/metrics", headers=headers).status_code == 401
            assert running.client.get("/v1/models", headers=headers).status_code == 401
        assert running.client.post("/rerank", json=BODY, headers=right).status_code == 200
        for path in ("/health", "/ready", "/docs", "/openapi.json"):
            assert running.client.get(path).status_code == 200
        # A wrong key is told so before a body is read.
        wrong = running.client.post("/rerank", content=(b" " * 1_000 for _ in range(3)))
        assert wrong.status_code == 401


def test_a_blank_key_is_no_key():
    with pytest.raises(ValueError, match="blank"):
        create_app(Engine(BioReranker(Quick())), api_key=" ")


def test_other_origins_are_refused_unless_named(server: Running):
    ask = {"origin": "https://a.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in server.client.options("/rerank", headers=ask).headers
    with started(BioReranker(Quick()), cors_origins=["https://a.example"], api_key="k") as running:
        answer = running.client.options("/rerank", headers=ask)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://a.example")
        other = running.client.options("/rerank", headers={**ask, "origin": "https://b.example"})
        assert "access-control-allow-origin" not in other.headers


def test_too_much_is_refused_early_and_what_was_accepted_is_answered():
    slow = Slow()
    with started(BioReranker(slow), limits=Limits(max_waiting=6)) as running, ThreadPoolExecutor(2) as threads:
        first = threads.submit(running.client.post, "/rerank", json=BODY)
        assert slow.began.wait(10)
        second = threads.submit(running.client.post, "/rerank", json=BODY)
        _eventually(lambda: running.engine.admission.waiting == 6)
        began = time.monotonic()
        refused = [running.client.post("/rerank", json=BODY) for _ in range(20)]
        assert time.monotonic() - began < 5
        assert {answer.status_code for answer in refused} == {429}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        slow.go_on.set()
        for accepted in (first.result(), second.result()):
            assert [line["index"] for line in accepted.json()] == [2, 1, 0]
        assert running.engine.admission.waiting == 0
        assert slow.asked == [3, 3]
        page = running.client.get("/metrics").text
    assert 'biorerank_refused_total{reason="overloaded"} 20.0' in page or 'status="429"} 20.0' in page
    assert "biorerank_scored_pairs_total 6.0" in page


def test_a_request_that_would_miss_the_deadline_is_refused_at_once():
    class Steady(Quick):
        def logits(self, query, texts):
            time.sleep(0.05 * len(texts))
            return super().logits(query, texts)

    # Long enough that forty clients of a busy machine come while the first is answered.
    with started(BioReranker(Steady()), limits=Limits(deadline=5.0)) as running:
        many = {"query": QUERY, "texts": [str(n) for n in range(10)]}
        assert running.client.post("/rerank", json=many).status_code == 200  # its rate is known now: 20 a second

        def ask(number: int) -> tuple[int, float]:
            began = time.monotonic()
            return running.client.post("/rerank", json=many).status_code, time.monotonic() - began

        with ThreadPoolExecutor(40) as threads:
            answers = list(threads.map(ask, range(40)))
    assert {status for status, _ in answers} <= {200, 429, 504}
    assert sum(status == 200 for status, _ in answers) >= 4
    assert sum(status == 429 for status, _ in answers) >= 20
    assert max(seconds for status, seconds in answers if status == 429) < 1.5


def test_overload_from_many_clients_gives_right_answers_or_429(tiny_cross_encoder_dir: Path, oracle: BioReranker):
    texts = [f"p53 {word} the cell" for word in "suppresses binds lowers raises inhibits".split()]
    expected = order_of(oracle.predict([(QUERY, text) for text in texts]))
    reranker = BioReranker(tiny_cross_encoder_dir, device="cpu")
    with started(reranker, limits=Limits(max_waiting=20)) as running, ThreadPoolExecutor(16) as threads:
        ask = lambda _: running.client.post("/rerank", json={"query": QUERY, "texts": texts})  # noqa: E731
        answers = list(threads.map(ask, range(160)))
        assert {answer.status_code for answer in answers} <= {200, 429}
        good = [answer.json() for answer in answers if answer.status_code == 200]
        assert good and all([line["index"] for line in answer] == expected for answer in good)
        assert running.engine.admission.waiting == 0


def test_a_client_that_leaves_frees_its_place():
    slow = Slow()
    with started(BioReranker(slow), limits=Limits(max_waiting=3)) as running:
        payload = json.dumps(BODY).encode()
        head = f"POST /rerank HTTP/1.1\r\nHost: x\r\nContent-Length: {len(payload)}\r\n"
        connection = socket.create_connection(("127.0.0.1", int(running.url.rpartition(":")[2])))
        connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + payload)
        assert slow.began.wait(10)
        assert running.client.post("/rerank", json=BODY).status_code == 429
        connection.close()
        _eventually(lambda: running.engine.admission.waiting == 0)
        slow.go_on.set()
        assert running.client.post("/rerank", json=BODY).status_code == 200
        assert 'path="/rerank",status="499"} 1.0' in running.client.get("/metrics").text


def test_scoring_that_gives_up_is_a_timeout_too():
    def late(_: str, text: str) -> float:
        if text in BODY["texts"]:  # not while it warms up
            raise ScoringTimeoutError("Scoring took too long.")
        return 0.0

    with started(BioReranker(ScriptedScorer(late))) as running:
        answer = running.client.post("/rerank", json=BODY)
    assert (answer.status_code, answer.json()["error_type"]) == (504, "timeout")


def test_an_answer_that_takes_too_long_is_a_timeout():
    slow = Slow()
    with started(BioReranker(slow), limits=Limits(deadline=0.3)) as running:
        began = time.monotonic()
        answer = running.client.post("/rerank", json=BODY)
        assert (answer.status_code, answer.json()["error_type"]) == (504, "timeout")
        assert time.monotonic() - began < 5
        assert running.engine.admission.waiting == 0
        slow.go_on.set()
        assert running.client.post("/rerank", json=BODY).status_code == 200


def test_not_ready_until_the_model_is_loaded():
    loading = threading.Event()

    class Late(Quick):
        def logits(self, query, texts):
            loading.wait(30)
            return super().logits(query, texts)

    with started(BioReranker(Late()), wait=False) as running:
        _eventually(lambda: _status(running, "/health") == 200)
        assert running.client.get("/ready").status_code == 503
        answer = running.client.post("/rerank", json=BODY)
        assert (answer.status_code, answer.json()["error_type"]) == (503, "not_ready")
        assert int(answer.headers["retry-after"]) > 0
        loading.set()
        _eventually(lambda: _status(running, "/ready") == 200)
        assert running.client.post("/rerank", json=BODY).status_code == 200


def _status(running: Running, path: str) -> int:
    try:
        return running.client.get(path).status_code
    except httpx.TransportError:
        return 0


def test_a_model_that_cannot_be_loaded_ends_the_server(tmp_path: Path):
    with pytest.raises(ModelError, match="holds no model"):
        Server(Engine(BioReranker(tmp_path)), port=0).run()


def test_a_port_that_is_taken_is_an_error_that_names_it(server: Running):
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(OSError, match=f"port {port}"):
        Server(Engine(BioReranker(Quick())), port=port)


def test_the_parts_of_a_reply_do_not_wait_for_one_another():
    with (
        listen("127.0.0.1", 0, waiting=1) as listening,
        socket.create_connection(listening.getsockname()) as client,
        listening.accept()[0] as taken,
    ):
        assert client.getpeername() == taken.getsockname()
        assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_what_is_under_way_is_answered_before_the_server_stops():
    slow = Slow()
    with started(BioReranker(slow), drain_delay=0.5) as running, ThreadPoolExecutor(1) as threads:
        accepted = threads.submit(running.client.post, "/rerank", json=BODY)
        assert slow.began.wait(10)
        running.server.stop()
        assert running.client.get("/ready").status_code == 503  # and still taken, for those who do not know it yet
        assert running.client.get("/health").status_code == 200
        _eventually(lambda: _is_closed(int(running.url.rpartition(":")[2])))
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{running.url}/health")
        slow.go_on.set()
        assert [line["index"] for line in accepted.result().json()] == [2, 1, 0]


def _is_closed(port: int) -> bool:
    """Whether a port takes no connection; asks nothing, for a request that comes while it closes may be lost."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False


def test_signals_end_the_command_after_what_is_under_way(tiny_cross_encoder_dir: Path):
    options = ["--model", str(tiny_cross_encoder_dir), "--device", "cpu", "--port", "0", "--json", "--quiet"]
    command = [sys.executable, "-m", "biorerank_plugins.cli", "serve", *options]
    environment = {**os.environ, "BIORERANK_API_KEY": "from the environment"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None and process.stderr is not None
    with process.stdout, process.stderr:
        said = json.loads(process.stdout.readline())
        assert said["models"] == [tiny_cross_encoder_dir.name] and said["search"] is False
        with httpx.Client(base_url=said["url"], timeout=60) as client, ThreadPoolExecutor(4) as threads:
            assert client.post("/rerank", json=BODY).status_code == 401
            headers = {"authorization": "Bearer from the environment"}
            many = {"query": QUERY, "texts": [f"p53 binds {n}" for n in range(900)]}
            sent = [threads.submit(client.post, "/rerank", json=many, headers=headers) for _ in range(4)]
            taken = "biorerank_waiting_pairs 3600.0"
            _eventually(lambda: taken in client.get("/metrics", headers=headers).text or all(s.done() for s in sent))
            process.send_signal(signal.SIGTERM)
            assert [len(one.result().json()) for one in sent] == [900] * 4
        assert process.wait(60) == 0
        assert process.stdout.read() == "" and process.stderr.read() == ""


def test_the_page_describes_every_route_without_anything_from_elsewhere(server: Running):
    page = server.client.get("/docs").text
    for path in ("/rerank", "/v1/rerank", "/v2/rerank", "/search", "/health", "/ready", "/metrics"):
        assert f" {path}</code>" in page
    assert "http://" not in page and "https://" not in page and "<script" not in page
    schemas = server.client.get("/openapi.json").json()["components"]["schemas"]
    assert {"TextsRerank", "DocumentsRerank", "SearchRequest"} <= set(schemas)


def test_state_routes(server: Running):
    assert server.client.get("/ready").json() == {"status": "ready"}
    assert [one["id"] for one in server.client.get("/v1/models").json()["data"]] == ["tiny", "rerank-v3.5"]
    info = server.client.get("/info").json()
    assert info["model_id"] == "tiny" and info["model_type"] == {"reranker": {}} and info["search"] is True
    page = server.client.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain")
    assert "biorerank_ready 1.0" in page.text
    server.client.get("/made-up-by-a-client")
    assert "made-up" not in server.client.get("/metrics").text
