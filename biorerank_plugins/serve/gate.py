"""What stands before every route: the key, the size of the body, slow senders, clients that leave, and counting."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
import zlib
from collections.abc import Callable
from contextlib import suppress

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from biorerank_plugins.serve.answers import RefusedError, refusal, unexpected
from biorerank_plugins.serve.engine import Engine

logger = logging.getLogger(__name__)

_OPEN = ("/", "/health", "/ready", "/docs", "/openapi.json")
_WORK = ("/rerank", "/v1/rerank", "/v2/rerank", "/score", "/v1/score", "/search")
_CLIENT_LEFT = 499
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_PAIRS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 5_000)


class Metrics:
    """Counters of one server, in a registry of their own; ``waiting`` gives the pairs under way."""

    def __init__(self, waiting: Callable[[], float], ready: Callable[[], float]) -> None:
        self._registry = own = CollectorRegistry()
        ProcessCollector(registry=own)
        PlatformCollector(registry=own)
        GCCollector(registry=own)
        self.requests = Counter("biorerank_requests", "Requests answered.", ["path", "status"], registry=own)
        self.seconds = Histogram(
            "biorerank_request_seconds", "From the headers to the answer.", ["path"], buckets=_SECONDS, registry=own
        )
        self.open = Gauge("biorerank_open_requests", "Requests being read or answered.", registry=own)
        self.refused = Counter("biorerank_refused", "Requests refused.", ["reason"], registry=own)
        self.pairs = Counter("biorerank_scored_pairs", "Pairs scored; long texts count as several.", registry=own)
        self.size = Histogram("biorerank_request_pairs", "Pairs a request.", buckets=_PAIRS, registry=own)
        Gauge("biorerank_waiting_pairs", "Pairs under way.", registry=own).set_function(waiting)
        Gauge("biorerank_ready", "Whether requests are taken.", registry=own).set_function(ready)

    def note(self, pairs: int) -> None:
        """Count the pairs of a request."""
        self.pairs.inc(pairs)
        self.size.observe(pairs)

    def page(self) -> bytes:
        """Return all of them as text."""
        return generate_latest(self._registry)


class Gate:
    """ASGI middleware; see the module. The engine's limits hold, and its load decides whether a body is read at all."""

    def __init__(self, app: ASGIApp, *, engine: Engine, metrics: Metrics, api_key: str | None = None) -> None:
        self._app = app
        self._engine = engine
        self._limits = engine.limits
        self._metrics = metrics
        self._key = None if api_key is None else api_key.encode()
        self._being_read = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] != "/" and scope["path"].endswith("/"):
            # A redirect would make some clients send a GET, or nothing at all.
            scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        started = time.perf_counter()
        self._metrics.open.inc()
        try:
            await self._let_through(scope, receive, watched)
        except RefusedError as error:
            headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
            self._metrics.refused.labels(error.kind).inc()
            await refusal(error, headers)(scope, receive, watched)
        except Exception as error:
            if status:  # the answer has begun, and can only be cut off
                raise
            logger.exception("A request to %s failed.", scope["path"])
            await refusal(unexpected(error))(scope, receive, watched)
        finally:
            self._metrics.open.dec()
            # A path that is no route would let clients make up labels.
            route = getattr(scope.get("route"), "path", scope["path"] if scope["path"] in _WORK else "other")
            self._metrics.requests.labels(route, str(status or _CLIENT_LEFT)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - started)

    async def _let_through(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        if scope["path"] not in _OPEN and scope["method"] != "OPTIONS":
            self._check_key(headers.get(b"authorization", b""))
        if scope["method"] == "POST":
            if scope["path"] in _WORK:
                self._engine.check_ready()
                self._engine.admission.refuse_full()
            body = await self._body(headers, receive)
            if body is not None:
                if headers.get(b"content-encoding", b"").lower() in (b"gzip", b"x-gzip"):
                    body = await asyncio.to_thread(unpacked, body, self._limits.max_body_bytes)
                await self._answer(scope, body, receive, send)
            return
        await self._app(scope, receive, send)

    def _check_key(self, authorization: bytes) -> None:
        if self._key is None:
            return
        scheme, _, key = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(key.strip(), self._key):
            raise RefusedError(401, "unauthorized", "This server asks for its key: Authorization: Bearer KEY.")

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        """Read the body; ``None`` if the client left."""
        most = self._limits.max_body_bytes
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced[:20]) > most:
            raise _too_large(most)
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._limits.body_timeout):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    self._being_read += len(parts[-1])
                    if size > most:
                        raise _too_large(most)
                    if self._being_read > self._limits.max_read_bytes:
                        raise RefusedError(429, "overloaded", "Too many requests are being sent. Try again later.", 1)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            seconds = self._limits.body_timeout
            raise RefusedError(408, "slow", f"The request was not sent within {seconds:g} seconds.") from None
        finally:
            self._being_read -= size

    async def _answer(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Run the application; when the client leaves, what it asked for is given up."""
        gone = asyncio.create_task(_left(receive))
        unread = [body]

        async def replay() -> Message:
            if unread:
                return {"type": "http.request", "body": unread.pop(), "more_body": False}
            await asyncio.shield(gone)
            return {"type": "http.disconnect"}

        work = asyncio.ensure_future(self._app(scope, replay, send))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            for task in (work, gone):
                if not task.done():
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def unpacked(body: bytes, most: int) -> bytes:
    """Return what a gzipped body holds; refuse one from which more bytes would come, or that is damaged."""
    unpacking = zlib.decompressobj(wbits=31)
    try:
        found = unpacking.decompress(body, most + 1)
    except zlib.error:
        raise RefusedError(422, "validation", "The body is said to be gzip, and is none.") from None
    if len(found) > most:
        raise _too_large(most)
    if not unpacking.eof:
        raise RefusedError(422, "validation", "The gzipped body ends too early.")
    return found


def _too_large(most: int) -> RefusedError:
    return RefusedError(413, "too_large", f"The request has more than {most} bytes. Send fewer texts at once.")
