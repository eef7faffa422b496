"""The application: routes behind a gate."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from biorerank_plugins._common.versions import VERSION
from biorerank_plugins.serve.answers import handlers
from biorerank_plugins.serve.engine import Engine
from biorerank_plugins.serve.gate import Gate
from biorerank_plugins.serve.metrics import Metrics
from biorerank_plugins.serve.routes import describe_shapes, routes

logger = logging.getLogger(__name__)

_ABOUT = "Rerank biomedical texts in the protocols of Text Embeddings Inference, Cohere and Jina; search an index."


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
        exception_handlers=handlers(),
    )
    metrics = Metrics(lambda: engine.admission.waiting, lambda: engine.ready and not engine.draining)
    app.include_router(routes(app, engine, metrics))
    described = app.openapi
    app.openapi = lambda: describe_shapes(described())  # type: ignore[method-assign]
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
