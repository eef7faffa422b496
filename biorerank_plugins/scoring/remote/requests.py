"""Requests to a reranking server: addresses, parts, and what can go wrong on the way."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from biorerank_plugins._common.checks import string
from biorerank_plugins.errors import BioRerankError, ScoringError, ScoringTimeoutError

if TYPE_CHECKING:
    import httpx

_CHARACTERS_A_REQUEST = 1_000_000  # servers refuse bodies of a few megabytes


def checked_url(url: str) -> str:
    """Return the address without a slash at its end; raise ``ValueError`` if it is none, or holds a secret."""
    place = urlsplit(string("url", url))
    if place.scheme not in ("http", "https") or not place.hostname:
        raise ValueError(f"url must be an address such as 'http://localhost:8080', got {url!r:.80}.")
    if place.username or place.password or place.query:
        raise ValueError("url must hold no user, password or query, which would show in messages. Use api_key.")
    return url.rstrip("/")


def parts(texts: list[str], most: int) -> Iterator[list[str]]:
    """Give texts in parts of at most ``most``, and not too many characters."""
    part: list[str] = []
    characters = 0
    for text in texts:
        if part and (len(part) == most or characters + len(text) > _CHARACTERS_A_REQUEST):
            yield part
            part, characters = [], 0
        part.append(text)
        characters += len(text)
    if part:
        yield part


def json_of(url: str, response: httpx.Response) -> Any:
    """Return what an answer holds; raise ``ScoringError`` if it is no JSON."""
    try:
        return response.json()
    except ValueError:
        raise ScoringError(f"{url} answered with something that is no JSON: {response.text[:80]!r}.") from None


def unreachable(url: str, error: Exception, *, is_late: bool) -> BioRerankError:
    """Return the error of a server that cannot be reached, or is late."""
    if is_late:
        return ScoringTimeoutError(f"{url} did not answer in time. Give a longer timeout, or a smaller batch.")
    return ScoringError(f"{url} cannot be reached: {type(error).__name__}: {error}.")


def seconds(header: str | None) -> float | None:
    """Return the seconds of a Retry-After header; a date in it is not read."""
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
