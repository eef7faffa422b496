"""Replicas on Ray Serve: the same answers, and none lost without an error when one is killed."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

ray = pytest.importorskip("ray")
pytest.importorskip("ray.serve")

import httpx  # noqa: E402
from support.serve import QUERY, TEXTS, order_of  # noqa: E402

from biorerank_plugins import BioReranker  # noqa: E402
from biorerank_plugins.serve import Engine  # noqa: E402
from biorerank_plugins.serve.replicas import Replicas  # noqa: E402

# Starting Ray takes long, and its own warnings are its own.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.filterwarnings("default")]


def _engine(model: str) -> Engine:
    return Engine(BioReranker(model, device="cpu"), names=("tiny",))


@pytest.fixture(scope="module")
def replicas(tiny_cross_encoder_dir: Path) -> Iterator[Replicas]:
    cloudpickle = pytest.importorskip("ray.cloudpickle")
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # replicas cannot import a test
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    build = partial(_engine, str(tiny_cross_encoder_dir))
    running = Replicas(build=build, count=2, port=port, api_key="k", cpus=0.1, drain_timeout=10)
    try:
        running.start()
        yield running
    finally:
        running.stop()
        ray.shutdown()


def _client(replicas: Replicas) -> httpx.Client:
    return httpx.Client(base_url=replicas.url, timeout=60, headers={"authorization": "Bearer k"})


def test_answers_are_those_of_the_library(replicas: Replicas, oracle: BioReranker):
    assert "'k'" not in repr(replicas)
    expected = oracle.predict([(QUERY, text) for text in TEXTS])
    with _client(replicas) as client:
        for _ in range(6):
            answer = client.post("/rerank", json={"query": QUERY, "texts": TEXTS}).json()
            assert [line["index"] for line in answer] == order_of(expected)
            found = [line["score"] for line in sorted(answer, key=lambda line: line["index"])]
            assert found == pytest.approx(list(expected), abs=1e-6)
        body = {"model": "tiny", "query": QUERY, "documents": TEXTS, "top_n": 1}
        assert client.post("/v2/rerank", json=body).json()["results"][0]["index"] == order_of(expected)[0]
        assert client.post("/rerank", json={"query": "", "texts": TEXTS}).status_code == 422
        assert client.get("/ready").status_code == 200
    assert httpx.post(f"{replicas.url}/rerank", json={"query": QUERY, "texts": TEXTS}).status_code == 401


def test_the_command_starts_replicas_and_stops_them_on_sigterm(tiny_cross_encoder_dir: Path, index_dir: Path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["--ray", "1", "--ray-cpus", "0", "--port", str(port), "--json", "--index", str(index_dir)]
    command = [sys.executable, "-m", "biorerank_plugins.cli", "serve", "--model", str(tiny_cross_encoder_dir), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        found = httpx.post(f"{url}/search", json={"query": QUERY, "top_k": 2}, timeout=60).json()
        assert len(found["passages"]) == 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_a_replica_that_is_killed_loses_no_request_silently(replicas: Replicas, oracle: BioReranker):
    expected = order_of(oracle.predict([(QUERY, text) for text in TEXTS]))
    statuses: list[int] = []
    wrong: list[object] = []
    ended = threading.Event()

    def ask() -> None:
        with _client(replicas) as client:
            while not ended.is_set():
                answer = client.post("/rerank", json={"query": QUERY, "texts": TEXTS})
                statuses.append(answer.status_code)
                if answer.status_code == 200 and [line["index"] for line in answer.json()] != expected:
                    wrong.append(answer.text)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(2)
        _kill_a_replica()
        before = len(statuses)
        time.sleep(8)
    finally:
        ended.set()
        for thread in threads:
            thread.join(90)
    assert not any(thread.is_alive() for thread in threads) and not wrong
    assert set(statuses) <= {200, 500, 503}
    assert statuses.count(200) > 0.9 * len(statuses)
    assert 200 in statuses[before:] and statuses[-1] == 200


def _kill_a_replica() -> None:
    names = [one["name"] for one in ray.util.list_named_actors(all_namespaces=True) if "#Reranker#" in one["name"]]
    assert len(names) == 2
    ray.kill(ray.get_actor(names[0], namespace="serve"))
