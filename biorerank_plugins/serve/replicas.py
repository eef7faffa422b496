"""The same application in several processes, or on several machines, behind Ray Serve.

Each replica is one engine with its own model and its own limits, which :mod:`.gate` keeps as in a single process; Ray
Serve spreads requests, starts a replica again that died, and lets replicas finish what they have before they stop. A
replica that dies takes the requests that it was answering along: their clients get a status of 500, and no half answer.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from biorerank_plugins._common.checks import finite_number, whole_number
from biorerank_plugins.errors import require_extra

if TYPE_CHECKING:
    from fastapi import FastAPI

    from biorerank_plugins.serve.engine import Engine

_NAME = "biorerank"
_AT_ONCE = 256  # requests a replica; it refuses by pairs long before
_QUEUED = 1_024  # requests that wait for a replica while one is started again


@dataclass(frozen=True, kw_only=True)
class Replicas:
    """Replicas of a server on Ray Serve; a Ray that runs already is used as it is, else a local one is started.

    Ray starts no dashboard and sends no usage data.

    :param build: makes the engine, in each replica; it must be picklable.
    :param count: replicas.
    :param host: address to listen on.
    :param port: port.
    :param api_key: see :func:`~biorerank_plugins.serve.create_app`; so is ``cors_origins``.
    :param cpus: processors that a replica asks Ray for.
    :param gpus: GPUs, or parts of one, that a replica asks Ray for.
    :param drain_timeout: seconds in which replicas that stop may answer what they have.
    :raises ValueError: if a number is impossible.

    >>> Replicas(build=partial(build_engine, "my-model"), count=4, gpus=1).run()  # doctest: +SKIP
    """

    build: Callable[[], Engine]
    count: int = 2
    host: str = "127.0.0.1"
    port: int = 8080
    api_key: str | None = field(default=None, repr=False)
    cors_origins: Sequence[str] = ()
    cpus: float = 1.0
    gpus: float = 0.0
    drain_timeout: float = 30.0

    def __post_init__(self) -> None:
        whole_number("count", self.count)
        finite_number("cpus", self.cpus, low=0)
        finite_number("gpus", self.gpus, low=0)
        finite_number("drain_timeout", self.drain_timeout, low=0, high=3600)

    @property
    def url(self) -> str:
        """Where they answer."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    def start(self) -> None:
        """Start Ray and the replicas; returns when all of them have loaded their models.

        :raises MissingExtraError: if Ray is not installed.
        :raises RuntimeError: if a replica cannot be started; Ray's message says why.
        """
        ray, serve = _ray()
        from ray.serve.config import BackpressureConfig, HTTPOptions

        if not ray.is_initialized():
            local: dict[str, Any] = {"address": "local"} if os.environ.get("RAY_ADDRESS") is None else {}
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **local)
        serve.start(http_options=HTTPOptions(host=self.host, port=self.port))
        build, api_key, cors_origins = self.build, self.api_key, tuple(self.cors_origins)

        # Ray knows a function that makes an application from an application itself, and sends it no request before.
        def application() -> FastAPI:
            from biorerank_plugins.serve.app import create_app

            engine = build()
            engine.start()
            return create_app(engine, api_key=api_key, cors_origins=cors_origins)

        deployment = serve.deployment(
            name="Reranker",
            num_replicas=self.count,
            max_ongoing_requests=_AT_ONCE,
            max_queued_requests=_QUEUED,
            backpressure_config=BackpressureConfig(status_code=429, retry_after_s=1),
            graceful_shutdown_timeout_s=self.drain_timeout,
            ray_actor_options={"num_cpus": self.cpus, "num_gpus": self.gpus},
        )(serve.ingress(application)())
        serve.run(deployment.bind(), name=_NAME, route_prefix="/")

    def stop(self) -> None:
        """Let the replicas answer what they have, and stop Ray Serve; a Ray that was there before stays."""
        ray, serve = _ray()
        if ray.is_initialized():
            serve.shutdown()

    def run(self, on_ready: Callable[[], None] | None = None) -> None:
        """Serve until SIGTERM or Ctrl-C; ``on_ready`` is called once all replicas are there."""
        ended = threading.Event()
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self.start()
            for number in before:  # after Ray has set its own, which would end the process at once
                signal.signal(number, lambda _, __: ended.set())
            if on_ready is not None:
                on_ready()
            while not ended.wait(0.2):
                pass
        finally:
            self.stop()
            for number, handler in before.items():
                signal.signal(number, handler)


def _ray() -> tuple[Any, Any]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with require_extra("ray"):
        import ray
        from ray import serve

        return ray, serve
