"""Running the server: over stdin and stdout, as clients start it, or over HTTP on this machine."""

from __future__ import annotations

import asyncio
import logging
import threading

import uvicorn
from mcp.server.stdio import stdio_server

from biorerank_plugins._common.ports import listen
from biorerank_plugins.mcp.library import Library
from biorerank_plugins.mcp.server import create_server

logger = logging.getLogger(__name__)

_HOST = "127.0.0.1"  # nobody is asked for a key
_LARGEST = 5_000_000  # bytes of a request: a million characters of passages, as JSON


def run_stdio(library: Library) -> None:
    """Serve one client over stdin and stdout, until it goes. What else writes to stdout meanwhile goes to stderr.

    :param library: what answers; loaded in the background, and closed in the end.
    """
    _load_meanwhile(library)
    try:
        asyncio.run(_over_stdio(library))
    finally:
        library.close()


async def _over_stdio(library: Library) -> None:
    server = create_server(library)
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


def run_http(library: Library, *, port: int = 8000) -> None:
    """Serve streamable HTTP at ``http://127.0.0.1:PORT/mcp``, for clients on this machine, until Ctrl-C or SIGTERM.

    :param library: what answers; loaded in the background, and closed in the end.
    :param port: where to listen.
    :raises OSError: if another program listens there.
    """
    listening = listen(_HOST, port, waiting=128)
    # The SDK refuses other hosts and origins than this machine's where it is told this one.
    app = create_server(library).streamable_http_app(
        host=_HOST, stateless_http=True, json_response=True, max_request_body_size=_LARGEST
    )
    _load_meanwhile(library)
    try:
        config = uvicorn.Config(app, ws="none", log_config=None, access_log=False, server_header=False)
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        library.close()


def _load_meanwhile(library: Library) -> None:
    """Load the models while the client says what it is; a call that comes earlier waits, and is told what failed."""

    def load() -> None:
        try:
            library.open()
        except Exception as error:  # each call says it too
            logger.error("The index or its models cannot be loaded: %s", error)

    threading.Thread(target=load, name="biorerank-loading", daemon=True).start()
