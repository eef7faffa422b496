"""Answers as JSON that every client can read, and errors in a shape that each of the protocols knows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from biorerank_plugins.errors import BioRerankError, OverloadedError

_SHOWN = 5
_TYPES = {400: "validation", 404: "not_found", 405: "method_not_allowed"}


class RefusedError(Exception):
    """A request that is not answered: status, a word for programs, a message, and seconds after which it may work."""

    def __init__(self, status: int, kind: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.retry_after = retry_after


class Json(Response):
    """JSON without NaN and infinity, which are no JSON; metadata that hold them say null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the bytes."""
        try:
            text = _dumps(content)
        except ValueError:
            text = _dumps(_finite(content))
        try:
            return text.encode()
        except UnicodeEncodeError:  # half a surrogate pair, which a client can send in an escape
            return json.dumps(_finite(content), allow_nan=False).encode("ascii")


def _dumps(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(item) for item in value]
    return value


def refusal(error: RefusedError, headers: Mapping[str, str] | None = None) -> Json:
    """Return an error as an answer: ``error`` and ``error_type`` of TEI, ``message`` of Cohere, ``detail`` of Jina."""
    message = str(error)
    content = {"error": message, "error_type": error.kind, "message": message, "detail": message}
    more = dict(headers or {})
    if error.retry_after is not None:
        more["Retry-After"] = str(error.retry_after)
    return Json(content, status_code=error.status, headers=more)


def unexpected(error: Exception) -> RefusedError:
    """Return what a client is told of an error that nobody foresaw: what it says may be about this machine."""
    return RefusedError(500, "internal", f"The server failed: {type(error).__name__}. Its log says why.")


async def _answered(_: Request, error: Exception) -> Response:
    return refusal(_refused(error), getattr(error, "headers", None))


HANDLERS: dict[Any, Any] = dict.fromkeys(
    (RefusedError, RequestValidationError, HTTPException, TimeoutError, BioRerankError), _answered
)
"""What answers which exception, as FastAPI takes it."""


def _refused(error: Exception) -> RefusedError:
    match error:
        case RefusedError():
            return error
        case RequestValidationError():
            # What came is not repeated: it may be a body of megabytes, or a patient's.
            found = [f"{_place(one['loc'])}: {one['msg']}" for one in error.errors()]
            more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            return RefusedError(422, "validation", "; ".join(found[:_SHOWN]) + more)
        case HTTPException():
            return RefusedError(error.status_code, _TYPES.get(error.status_code, "error"), str(error.detail))
        case TimeoutError():
            late = "The answer was not there in time. Send fewer texts, or try again later."
            return RefusedError(504, "timeout", str(error) or late)
        case OverloadedError():
            return RefusedError(429, "overloaded", str(error), 1)
        case _:
            return RefusedError(500, "backend", str(error))


def _place(loc: Sequence[str | int]) -> str:
    if loc[0] == "body" and len(loc) == 2 and isinstance(loc[1], int):  # where in malformed JSON
        return f"The body is no JSON at character {loc[1]}"
    return ".".join(str(part) for part in loc if part not in ("body", "texts-shape", "documents-shape")) or "The body"
