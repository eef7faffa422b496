"""Running the application: sockets, signals, and clients that send nothing."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from biorerank_plugins._common.checks import finite_number
from biorerank_plugins._common.ports import listen
from biorerank_plugins.serve.app import create_app
from biorerank_plugins.serve.engine import Engine
from biorerank_plugins.serve.limits import Limits

_KEEP_ALIVE = 15  # seconds; clients reuse connections, and idle ones are cheap


class Server:
    """An engine behind a socket.

    SIGTERM and Ctrl-C end it in this order: ``/ready`` says 503 while requests are still taken, for ``drain_delay``
    seconds, so that load balancers look elsewhere; then no connection is taken any more; what is under way is answered,
    within ``drain_timeout`` seconds; then the engine is closed.

    :param engine: what answers.
    :param host: address to listen on.
    :param port: port; 0 for a free one, see :attr:`url`.
    :param api_key: see :func:`create_app`; so is ``cors_origins``.
    :param drain_delay: seconds, see above.
    :param drain_timeout: seconds, see above.
    :param on_ready: called once everything is loaded.
    :raises OSError: if the address cannot be listened on.
    :raises ValueError: if an option is impossible.

    >>> Server(Engine(BioReranker()), port=8080).run()  # doctest: +SKIP
    """

    def __init__(
        self,
        engine: Engine,
        *,
        host: str = "127.0.0.1",
        port: int = 8080,
        api_key: str | None = None,
        cors_origins: Sequence[str] = (),
        drain_delay: float = 0.0,
        drain_timeout: float = 30.0,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        self._engine = engine
        self._failure: Exception | None = None
        self._drain_delay = finite_number("drain_delay", drain_delay, low=0, high=3600)
        timeout = finite_number("drain_timeout", drain_timeout, low=0, high=3600)
        self._on_ready = on_ready
        app = create_app(engine, api_key=api_key, cors_origins=cors_origins, on_failure=self._failed)
        config = uvicorn.Config(
            app,
            http=_patient_for(engine.limits),
            ws="none",
            log_config=None,  # the root logger is the caller's
            access_log=False,  # one line a request, at thousands a second
            limit_concurrency=engine.limits.max_connections,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=max(1, round(timeout)),
            server_header=False,
        )
        self._uvicorn = uvicorn.Server(config)
        self._socket = listen(host, port, waiting=2048)
        name, number = self._socket.getsockname()[:2]
        self.url = f"http://[{name}]:{number}" if ":" in name else f"http://{name}:{number}"

    def run(self) -> None:
        """Serve until a signal or :meth:`stop`.

        :raises BioRerankError: if the model or the index cannot be loaded.
        """
        threading.Thread(target=self._tell_ready, daemon=True).start()
        if threading.current_thread() is threading.main_thread():
            self._run_with_signals()
        else:
            self._uvicorn.run(sockets=[self._socket])
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Stop as a signal does; may be called in any thread, and more than once."""
        if self._engine.draining:
            return
        self._engine.draining = True
        threading.Thread(target=self._drain, daemon=True).start()

    def _run_with_signals(self) -> None:
        # uvicorn's own handlers would close the socket at once, and then end the process with the signal.
        before = {number: signal.signal(number, self._signalled) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            listening = {"sockets": [self._socket]}
            worker = threading.Thread(target=self._uvicorn.run, kwargs=listening, name="biorerank-http")
            worker.start()
            while worker.is_alive():  # signals are handled in this thread, between two waits
                worker.join(0.2)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if self._engine.draining and number == signal.SIGINT:
            self._uvicorn.force_exit = True  # Ctrl-C again
        self.stop()

    def _drain(self) -> None:
        time.sleep(self._drain_delay)
        self._uvicorn.should_exit = True

    def _failed(self, error: Exception) -> None:
        self._failure = error
        self._uvicorn.should_exit = True

    def _tell_ready(self) -> None:
        while not (self._uvicorn.started and self._engine.ready):
            if self._failure is not None or self._uvicorn.should_exit:
                return
            time.sleep(0.02)
        if self._on_ready is not None:
            self._on_ready()


class _Patient:
    """Closes connections on which no complete headers come, or no reply is read; uvicorn waits without end."""

    limits: Limits
    unread: set[asyncio.Transport]  # of all connections
    _timer: asyncio.TimerHandle | None = None
    _reader: asyncio.TimerHandle | None = None

    def connection_made(self: Any, transport: asyncio.Transport) -> None:
        super().connection_made(transport)  # type: ignore[misc]
        self._wait_for_headers()

    def data_received(self: Any, data: bytes) -> None:
        super().data_received(data)  # type: ignore[misc]
        if self._timer is None and self._is_idle():
            self._wait_for_headers()
        elif self._timer is not None and not self._is_idle():
            self._timer.cancel()
            self._timer = None

    def connection_lost(self: Any, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._is_read()
        super().connection_lost(error)  # type: ignore[misc]

    def pause_writing(self: Any) -> None:
        """A reply waits in memory: its client does not read it, or not yet."""
        super().pause_writing()  # type: ignore[misc]
        self.unread.add(self.transport)
        if sum(one.get_write_buffer_size() for one in self.unread) > self.limits.max_read_bytes:
            self.transport.abort()
        else:
            self._wait_for_reader(self.transport.get_write_buffer_size())

    def resume_writing(self: Any) -> None:
        super().resume_writing()  # type: ignore[misc]
        self._is_read()

    def _wait_for_reader(self: Any, waiting: int) -> None:
        self._reader = self.loop.call_later(self.limits.reply_timeout, self._look_again, waiting)

    def _look_again(self: Any, before: int) -> None:
        waiting = self.transport.get_write_buffer_size()
        if waiting < before:  # slowly, but it is read
            self._wait_for_reader(waiting)
        else:
            self.transport.abort()

    def _is_read(self: Any) -> None:
        self.unread.discard(self.transport)
        if self._reader is not None:
            self._reader.cancel()

    def _wait_for_headers(self: Any) -> None:
        self._timer = self.loop.call_later(self.limits.header_timeout, self._give_up)

    def _is_idle(self: Any) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _give_up(self: Any) -> None:
        self._timer = None
        if self._is_idle():
            self.transport.close()


def _patient_for(limits: Limits) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol, the fast one where it is installed, with limits on the time of headers and replies."""
    return type("PatientProtocol", (_Patient, AutoHTTPProtocol), {"limits": limits, "unread": set()})
