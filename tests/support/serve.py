"""Starting servers for tests, and talking to them."""

# ruff: noqa: E402  # what is missing is said before it is imported

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

for _module in ("fastapi", "httpx", "prometheus_client", "uvicorn"):
    pytest.importorskip(_module, reason=f"{_module}, of the extra 'serve', is not installed")

import httpx

from biorerank_plugins import BiEncoder, Passage, PassageIndex
from biorerank_plugins.serve import Engine, Limits, Server

QUERY = "does p53 suppress tumours?"
TEXTS = [
    "aspirin inhibits platelets.",
    "p53 suppresses tumours.",
    "metformin lowers glucose.",
    "brca1 mutation raises cancer risk.",
    "",
    "insulin binds the receptor, p53 does not.",
]
PASSAGES = [
    Passage("p1", "p53 suppresses tumours. It binds genes in the cell.", "TP53", {"year": 2010}),
    Passage("p2", "aspirin inhibits platelets.", metadata={"year": 2015}),
    Passage("p3", "metformin lowers glucose.", "Metformin", {"year": 2018}),
    Passage("p4", "insulin binds the receptor.", metadata={"year": 2020}),
]


@dataclass(frozen=True)
class Running:
    """A server that runs.

    :param client: talks to it.
    """

    server: Server
    engine: Engine
    client: httpx.Client

    @property
    def url(self) -> str:
        return self.server.url


@contextmanager
def started(reranker: Any, *, limits: Limits | None = None, wait: bool = True, **options: Any) -> Iterator[Running]:
    """Run a server until the body ends; options are those of the engine, then those of the server."""
    own = {name: options.pop(name) for name in ("open_index", "names", "first_stage") if name in options}
    engine = Engine(reranker, limits=limits, **own)
    ready = threading.Event()
    server = Server(engine, port=0, on_ready=ready.set, **options)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        if wait:
            assert ready.wait(60)
        with httpx.Client(base_url=server.url, timeout=30) as client:
            yield Running(server, engine, client)
    finally:
        server.stop()
        thread.join(60)
        assert not thread.is_alive()


def small_index(encoder: Path) -> PassageIndex:
    return PassageIndex.build(PASSAGES, encoder=BiEncoder(encoder, device="cpu"))


def order_of(scores: Sequence[float]) -> list[int]:
    """Return the places of scores from the highest to the lowest; equal ones as they come."""
    return sorted(range(len(scores)), key=lambda place: -scores[place])


class Slow:
    """A scorer that waits to be let on, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.began = threading.Event()
        self.go_on = threading.Event()

    def logits(self, query: str, texts: Sequence[str]) -> list[float]:
        if query == "Is it warm?":
            return [0.0] * len(texts)
        self.asked.append(len(texts))
        self.began.set()
        assert self.go_on.wait(30)
        return [float(len(text)) for text in texts]


class Quick:
    """A scorer whose logit is the number that a text is."""

    def logits(self, query: str, texts: Sequence[str]) -> list[float]:
        return [float(text) if text.lstrip("-").isdigit() else 0.0 for text in texts]
