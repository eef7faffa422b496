"""From the bytes of a request to what a route takes: bounded in memory, off the event loop, the first error only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError

from biorerank_plugins.serve.answers import RefusedError

MOST = 10
"""A body at the limit takes at most so many times its bytes while it is read."""

# Bytes that a value takes in Python beside its text, by the sign that begins it; a comma is a place in a list.
_WEIGHTS = {b"{": 250, b"[": 64, b'"': 25, b",": 10}


def check_weight(body: bytes, most: int) -> None:
    """Refuse a body that is small and would be large: millions of empty lists, say.

    :param most: bytes that it may take once it is read.
    :raises RefusedError: with status 422 if it may be more.

    >>> check_weight(b'{"documents": [' + b"[]," * 1000 + b"[]]}", most=1_000_000)
    """
    if sum(weight * body.count(sign) for sign, weight in _WEIGHTS.items()) > most:
        raise RefusedError(422, "validation", "The request holds too many values. Send fewer texts at once.")


def body_of(shape: Any, max_body_bytes: int) -> Callable[[Request], Awaitable[Any]]:
    """Return a dependency that reads the body of a request in some shape."""
    adapter: TypeAdapter[Any] = TypeAdapter(shape)

    def parse(body: bytes) -> Any:
        try:
            return adapter.validate_python(json.loads(body))
        except json.JSONDecodeError as error:
            raise _invalid(("body", error.pos), error.msg) from None
        except ValidationError as error:
            told = error.errors(include_url=False, include_context=False, include_input=False)
            raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in told]) from None
        except (ValueError, RecursionError) as error:  # no UTF-8, a number of thousands of digits, too deep
            raise _invalid(("body",), f"no JSON that can be read ({type(error).__name__})") from None

    async def read(request: Request) -> Any:
        # Some clients send no type. Another one than JSON is what a page elsewhere can send without being asked.
        if "json" not in request.headers.get("content-type", "application/json"):
            raise RefusedError(422, "validation", "Expected JSON with the header Content-Type: application/json.")
        body = await request.body()
        check_weight(body, MOST * max_body_bytes)
        return await asyncio.to_thread(parse, body)

    return read


def _invalid(place: tuple[str | int, ...], message: str) -> RequestValidationError:
    return RequestValidationError([{"loc": place, "msg": message}])
