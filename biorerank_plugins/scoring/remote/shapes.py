"""The protocols of reranking servers: what is sent, in which parts, what can go wrong, and how logits are read."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from biorerank_plugins._common.checks import string
from biorerank_plugins.errors import ScoringError

if TYPE_CHECKING:
    import httpx

_LEAST = 1e-12  # a score of 0 or 1 would be an infinite logit


@dataclass(frozen=True, slots=True)
class Shape:
    """A protocol."""

    path: str
    texts_key: str  # under which texts are sent
    gives_logits: bool = False  # when it is asked to
    raw_field: tuple[str, bool] | None = None  # how logits are asked for, and what is sent for them
    options: tuple[tuple[str, Any], ...] = ()  # sent with each request

    def body(self, query: str, texts: list[str], model: str | None, raw: bool) -> dict[str, Any]:
        """Return a request."""
        body: dict[str, Any] = {"query": query, self.texts_key: texts, **dict(self.options)}
        if self.texts_key == "documents":
            body["top_n"] = len(texts)
            if model is not None:
                body["model"] = model
        if raw and self.raw_field is not None:
            body[self.raw_field[0]] = self.raw_field[1]
        return body


SHAPES = {
    # Without truncation, one long text would fail its whole request.
    "tei": Shape("/rerank", "texts", True, ("raw_scores", True), (("truncate", True),)),
    "cohere": Shape("/v2/rerank", "documents"),
    "jina": Shape("/v1/rerank", "documents", options=(("return_documents", False),)),
    "vllm": Shape("/rerank", "documents", raw_field=("use_activation", False)),
}


def logits_of(answer: Any, shape: Shape, count: int, *, raw: bool) -> list[float]:
    """Return the logits in an answer (parsed JSON), in the order of the texts.

    :param count: how many texts were sent.
    :param raw: whether the numbers are logits.
    :raises ValueError, TypeError, KeyError: if the answer is not of that protocol, or not for each text.
    """
    lines, key = answer, "score"
    if shape.texts_key != "texts":
        if not isinstance(answer, dict):
            raise TypeError(f"expected an object with results, got {type(answer).__name__}.")
        lines, key = answer["results"], "relevance_score"
    if not isinstance(lines, list):
        raise TypeError(f"expected a list of results, got {type(lines).__name__}.")
    found: dict[int, float] = {}
    for line in lines:
        index, score = line["index"], line[key]
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count or index in found:
            raise ValueError(f"index {index!r:.40} does not belong to one of {count} texts, or came twice.")
        # Not math.isfinite, which fails for a whole number that is too large for a float.
        if isinstance(score, bool) or not isinstance(score, (int, float)) or not abs(score) <= sys.float_info.max:
            raise ValueError(f"the score of text {index} is {score!r:.40}, and no finite number.")
        found[index] = float(score) if raw else _inverse_sigmoid(float(score))
    if len(found) != count:
        raise ValueError(f"{len(found)} scores for {count} texts.")
    return [found[index] for index in range(count)]


def _inverse_sigmoid(score: float) -> float:
    if not 0.0 <= score <= 1.0:
        raise ValueError(
            f"a score of {score:g} is not between 0 and 1. If the server gives logits, pass raw_scores=True."
        )
    score = min(1.0 - _LEAST, max(_LEAST, score))
    return math.log(score) - math.log1p(-score)


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


def seconds(header: str | None) -> float | None:
    """Return the seconds of a Retry-After header; a date in it is not read."""
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


class RefusedError(ScoringError):
    """A server said no; the same request will not work later."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
