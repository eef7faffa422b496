"""Gunicorn with ``--preload``: the application is made before the fork, and each of two workers answers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

for _module in ("gunicorn", "httpx", "uvicorn_worker"):
    pytest.importorskip(_module, reason=f"{_module}, of clients.txt, is not installed")

import httpx  # noqa: E402  (only where it is installed)
from support.serve import QUERY, TEXTS  # noqa: E402

from biorerank_plugins import BioReranker, PassageIndex  # noqa: E402

APPLICATION = """
import os
from biorerank_plugins import BioReranker, PassageIndex
from biorerank_plugins.serve import Engine, create_app

reranker = BioReranker(os.environ["SERVED_MODEL"], device="cpu")
engine = Engine(reranker, open_index=lambda: PassageIndex.load(os.environ["SERVED_INDEX"]))
if os.environ["LOADED"] == "before":
    engine.start()
inner = create_app(engine)

async def app(scope, receive, send):
    async def signed(message):
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"x-worker", str(os.getpid()).encode())]
        await send(message)
    await inner(scope, receive, signed)
"""


@contextmanager
def gunicorn(folder: Path, worker: str, **settings: object) -> Iterator[str]:
    """Serve the application, and end it with SIGTERM."""
    (folder / "served.py").write_text(APPLICATION, encoding="utf-8")
    environment = {**os.environ, **{name: str(value) for name, value in settings.items()}, "HOME": str(folder)}
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "served:app", "--preload", "-w", "2", "-k", worker, "-b", "127.0.0.1:0"],
        cwd=folder, env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if "Listening at: " in line:
                yield line.partition("Listening at: ")[2].split()[0]
                break
        else:
            pytest.fail("".join(said))
    finally:
        process.terminate()
        _, rest = process.communicate(timeout=60)
    assert process.returncode == 0, rest
    assert "Traceback" not in rest, rest


def from_each(url: str, path: str, asked: dict[str, Any]) -> list[Any]:
    """Ask until both workers have answered, whichever takes a connection; one that is loading says 503."""
    answers: dict[str, Any] = {}
    while len(answers) < 2:
        said = httpx.post(url + path, json=asked, timeout=60)
        if said.status_code == 503:
            time.sleep(0.05)
            continue
        assert said.status_code == 200, said.text
        answers[said.headers["x-worker"]] = said.json()
    return list(answers.values())


@pytest.mark.parametrize(
    ("worker", "loaded"),
    [
        ("uvicorn_worker.UvicornWorker", "before"),
        ("uvicorn_worker.UvicornWorker", "in each worker"),
        ("asgi", "before"),
    ],
)
def test_each_worker_answers_as_the_library_does(
    worker: str, loaded: str, tiny_cross_encoder_dir: Path, index_dir: Path, oracle: BioReranker, tmp_path: Path
):
    expected = {one.input_index: pytest.approx(one.score, abs=1e-5) for one in oracle.rank(QUERY, TEXTS)}
    with PassageIndex.load(index_dir) as index:
        found = {one.passage.id for one in index.search(QUERY, 3)}
    with gunicorn(tmp_path, worker, SERVED_MODEL=tiny_cross_encoder_dir, SERVED_INDEX=index_dir, LOADED=loaded) as url:
        for answer in from_each(url, "/rerank", {"query": QUERY, "texts": TEXTS}):
            assert {one["index"]: one["score"] for one in answer} == expected
        for answer in from_each(url, "/search", {"query": QUERY, "candidates": 3}):
            assert {one["id"] for one in answer["passages"]} == found
