"""Opening a port, with an error that says which."""

from __future__ import annotations

import socket

__all__ = ["listen"]


def listen(host: str, port: int, *, waiting: int) -> socket.socket:
    """Return a socket that listens.

    :param host: address of this machine; one with a colon is IPv6.
    :param port: port; 0 for a free one.
    :param waiting: how many connections may wait to be taken.
    :raises OSError: if the address cannot be listened on, as where another program does.

    >>> with listen("127.0.0.1", 0, waiting=1) as opened:
    ...     opened.getsockname()[0]
    '127.0.0.1'
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        opened = socket.create_server((host, port), family=family, backlog=waiting)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {host}, port {port}: {error.strerror}") from None
    # asyncio does so for the sockets that it opens itself. Without it the second part of a reply waits for the client
    # to say that it has the first, which it puts off for 40 ms. Connections that are taken have what this one has.
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened
