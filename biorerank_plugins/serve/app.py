"""The application: routes behind a gate, and their description as a plain page, without scripts from elsewhere."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from html import escape
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.responses import HTMLResponse

from biorerank_plugins._common.versions import VERSION
from biorerank_plugins.serve.answers import HANDLERS
from biorerank_plugins.serve.engine import Engine
from biorerank_plugins.serve.gate import Gate, Metrics
from biorerank_plugins.serve.routes import describe_shapes, routes

logger = logging.getLogger(__name__)

_ABOUT = "Rerank biomedical texts in the protocols of Text Embeddings Inference, Cohere and Jina; search an index."
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem}"
    "pre{background:#f4f4f4;padding:.8rem;overflow:auto;font-size:13px}code{font-weight:600}"
    "h2{margin-top:2rem;border-top:1px solid #ccc;padding-top:1rem}summary{cursor:pointer}"
)


def create_app(
    engine: Engine,
    *,
    api_key: str | None = None,
    cors_origins: Sequence[str] = (),
    on_failure: Callable[[Exception], None] | None = None,
) -> FastAPI:
    """Return an ASGI application over an engine, which it starts in the background, and closes when it ends.

    :param engine: what answers.
    :param api_key: what clients must send as ``Authorization: Bearer KEY``; ``None`` lets everybody in.
    :param cors_origins: origins whose pages may call; none without it.
    :param on_failure: called with the error if the engine cannot be started.
    :raises ValueError: if ``api_key`` is blank.

    Example::

        import uvicorn
        from biorerank_plugins import BioReranker
        from biorerank_plugins.serve import Engine, create_app

        uvicorn.run(create_app(Engine(BioReranker())))
    """
    if api_key is not None and not api_key.strip():
        raise ValueError("The API key is blank; give one, or none at all.")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        starting = asyncio.create_task(_start(engine, on_failure))
        try:
            yield
        finally:
            await asyncio.wait({starting})  # a model cannot be closed while it is loaded
            engine.close()

    app = FastAPI(
        title="biorerank",
        version=VERSION,
        description=_ABOUT,
        docs_url=None,  # FastAPI's own page loads its scripts from the internet
        redoc_url=None,
        lifespan=lifespan,
        exception_handlers=HANDLERS,
    )
    metrics = Metrics(lambda: engine.admission.waiting, lambda: engine.ready and not engine.draining)
    app.include_router(routes(engine, metrics))
    described = app.openapi
    app.openapi = lambda: describe_shapes(described())  # type: ignore[method-assign]

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(_docs_page(app.openapi()))

    app.add_middleware(Gate, engine=engine, metrics=metrics, api_key=api_key)
    if cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    return app


async def _start(engine: Engine, on_failure: Callable[[Exception], None] | None) -> None:
    try:
        await asyncio.to_thread(engine.start)
    except Exception as error:
        logger.error("The server cannot start: %s", error)
        if on_failure is not None:
            on_failure(error)


def _docs_page(schema: dict[str, Any]) -> str:
    """Return the page of an OpenAPI description."""
    parts = [
        f"<h2><code>{method.upper()} {escape(path)}</code></h2>"
        f"<p>{escape(operation.get('description') or operation['summary'])}</p>{_bodies(operation)}"
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
    ]
    shapes = "".join(
        f"<details><summary>{escape(name)}</summary><pre>{escape(json.dumps(one, indent=2))}</pre></details>"
        for name, one in schema.get("components", {}).get("schemas", {}).items()
    )
    title = escape(f"{schema['info']['title']} {schema['info']['version']}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>{escape(schema['info'].get('description', ''))} For programs: "
        f'<a href="openapi.json">openapi.json</a>.</p>{"".join(parts)}<h2>Shapes</h2>{shapes}</html>'
    )


def _bodies(operation: dict[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    names = [str(one.get("$ref", "")).rpartition("/")[2] for one in [content, *content.get("oneOf", [])]]
    named = ", ".join(escape(name) for name in names if name)
    return f"<p>Takes {named}; see below.</p>" if named else ""
