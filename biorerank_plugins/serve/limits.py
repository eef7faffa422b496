"""What a server takes at most, so that no client can bring it down."""

from __future__ import annotations

from dataclasses import dataclass

from biorerank_plugins._common.checks import finite_number, whole_number

_CHARACTERS_A_PAIR = 2_000  # about what a model reads at once; a longer text is read in windows, and costs more


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a server; what is beyond them is refused with a status of its own.

    :param max_body_bytes: bytes of a request (413). All requests that are being read hold at most 20 times as much.
    :param max_texts: texts of a rerank request, or candidates of a search (413).
    :param max_waiting: pairs under way, those of all requests together (429). A text of more than 2,000 characters
        counts as several pairs.
    :param deadline: seconds from when a request was read to its answer (504). A request that surely misses it is
        refused at once (429).
    :param body_timeout: seconds in which a request must be sent (408).
    :param header_timeout: seconds in which its headers must be sent; then the connection is closed.
    :param reply_timeout: seconds in which a client must have read some of its reply; then the connection is cut. All
        replies that wait to be read hold no more bytes than the requests do.
    :param max_connections: open connections (503).
    :raises ValueError: if one is impossible.

    >>> Limits(max_texts=100).max_texts
    100
    """

    max_body_bytes: int = 10_000_000
    max_texts: int = 1_000
    max_waiting: int = 5_000
    deadline: float = 60.0
    body_timeout: float = 30.0
    header_timeout: float = 10.0
    reply_timeout: float = 30.0
    max_connections: int = 512

    def __post_init__(self) -> None:
        for name in ("max_body_bytes", "max_texts", "max_waiting", "max_connections"):
            whole_number(name, getattr(self, name))
        for name in ("deadline", "body_timeout", "header_timeout", "reply_timeout"):
            finite_number(name, getattr(self, name), low=0.001, high=1e6)

    @property
    def max_read_bytes(self) -> int:
        """Bytes of all requests that are being read."""
        return 20 * self.max_body_bytes

    @staticmethod
    def pairs(query: str, texts: list[str]) -> int:
        """Return how many pairs scoring texts counts as.

        >>> Limits.pairs("q", ["short", "long " * 1000])
        4
        """
        return sum(1 + (len(query) + len(text)) // _CHARACTERS_A_PAIR for text in texts)
