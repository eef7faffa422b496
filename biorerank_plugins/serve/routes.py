"""The routes; each turns a request into one call of the engine, and its ranking into the protocol's answer."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from fastapi import APIRouter, Depends
from pydantic import BaseModel
from starlette.responses import Response

from biorerank_plugins.passages import Ranking
from biorerank_plugins.serve.answers import Json, RefusedError
from biorerank_plugins.serve.engine import Engine
from biorerank_plugins.serve.gate import Metrics
from biorerank_plugins.serve.schemas import (
    AnyRerank,
    DocumentsRerank,
    ScoreRequest,
    SearchRequest,
    TextsRerank,
    body_of,
)

Route = TypeVar("Route", bound=Callable[..., Any])

_ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"description": "The key is missing or wrong."},
    404: {"description": "The model is not served here, or there is no index."},
    413: {"description": "The body is too large, or the request is of too many texts."},
    422: {"description": "The request is malformed; the message says where."},
    429: {"description": "Too much is under way; Retry-After says when to come back."},
    503: {"description": "The model is being loaded."},
    504: {"description": "The answer was not there by the deadline."},
}


def routes(engine: Engine, metrics: Metrics) -> APIRouter:
    """Return the routes of a server."""
    router = APIRouter()
    _add_rerank(router, engine, metrics)
    _add_score_and_search(router, engine, metrics)
    _add_state(router, engine, metrics)
    return router


def _takes(shape: Any, engine: Engine) -> Any:
    """Return how a route gets its body: read by us, since the framework's way builds an error for each of a million."""
    return Depends(body_of(shape, engine.limits.max_body_bytes))


def _described(*shapes: type[BaseModel]) -> dict[str, Any]:
    """Return what OpenAPI says of a body in one of some shapes."""
    named = [{"$ref": f"#/components/schemas/{shape.__name__}"} for shape in shapes]
    schema = named[0] if len(named) == 1 else {"oneOf": named}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _post(router: APIRouter, path: str, summary: str, *shapes: type[BaseModel]) -> Callable[[Route], Route]:
    """Return what makes a function the route of a path; its body is in one of some shapes."""
    return router.post(path, responses=_ERRORS, summary=summary, openapi_extra=_described(*shapes))


def describe_shapes(schema: dict[str, Any]) -> dict[str, Any]:
    """Add the shapes of bodies to an OpenAPI description."""
    shapes = (TextsRerank, DocumentsRerank, ScoreRequest, SearchRequest)
    schema.setdefault("components", {}).setdefault("schemas", {}).update(
        {shape.__name__: shape.model_json_schema() for shape in shapes}
    )
    return schema


@contextmanager
def _validated() -> Iterator[None]:
    """Refuse a request of which something is said to be wrong."""
    try:
        yield
    except ValueError as error:
        raise RefusedError(422, "validation", str(error)) from None


def _add_rerank(router: APIRouter, engine: Engine, metrics: Metrics) -> None:
    either, body = _takes(AnyRerank, engine), _takes(DocumentsRerank, engine)

    async def documents(request: DocumentsRerank, version: str) -> Response:
        model = engine.check_model(request.model)
        with _validated():
            texts = request.texts()
        # Cohere's second version says nothing of tokens, and counting them takes time.
        ranking, tokens = await engine.rank(request.query, texts, count_tokens=version == "1")
        metrics.note(engine.limits.pairs(request.query, texts))
        return Json(_documents_answer(request, ranking, texts, model, version, tokens))

    @_post(router, "/rerank", "Rerank", TextsRerank, DocumentsRerank)
    async def rerank(request: Any = either) -> Response:
        """Rerank: with `texts` as Text Embeddings Inference does, with `documents` as Cohere, Jina and vLLM do."""
        if isinstance(request, TextsRerank):
            ranking, _ = await engine.rank(request.query, request.texts)
            metrics.note(engine.limits.pairs(request.query, request.texts))
            return Json(_texts_answer(request, ranking))
        return await documents(request, "1")

    @_post(router, "/v1/rerank", "Rerank, as Cohere's and Jina's first version", DocumentsRerank)
    async def rerank_v1(request: Any = body) -> Response:
        """Rerank documents as version 1 of Cohere's API and Jina's do."""
        return await documents(request, "1")

    @_post(router, "/v2/rerank", "Rerank, as Cohere's second version", DocumentsRerank)
    async def rerank_v2(request: Any = body) -> Response:
        """Rerank documents as version 2 of Cohere's API does."""
        return await documents(request, "2")


def _add_score_and_search(router: APIRouter, engine: Engine, metrics: Metrics) -> None:
    pairs_body, search_body = _takes(ScoreRequest, engine), _takes(SearchRequest, engine)

    @router.post("/score", include_in_schema=False)
    @_post(router, "/v1/score", "Score", ScoreRequest)
    async def score(request: Any = pairs_body) -> Response:
        """Score pairs of texts, as vLLM does."""
        model = engine.check_model(request.model)
        with _validated():
            pairs = request.pairs()
        scores = await engine.score(pairs)
        metrics.note(len(pairs))
        data = [{"index": place, "object": "score", "score": score} for place, score in enumerate(scores)]
        usage = {"prompt_tokens": 0, "total_tokens": 0, "completion_tokens": 0}
        return Json({**_head("list", model), "data": data, "usage": usage})

    @_post(router, "/search", "Search", SearchRequest)
    async def search(request: Any = search_body) -> Response:
        """Find passages of the index and rerank them: `passages` with scores, probabilities, metadata and evidence."""
        ranking = await engine.search(request)
        metrics.note(len(ranking) + ranking.below_threshold)
        return Json(ranking.to_dict())


def _head(kind: str, model: str) -> dict[str, Any]:
    return {"id": str(uuid.uuid4()), "object": kind, "created": int(time.time()), "model": model}


def _texts_answer(request: TextsRerank, ranking: Ranking) -> list[dict[str, Any]]:
    return [
        {
            "index": line.input_index,
            "score": line.logit if request.raw_scores else line.score,
            **({"text": request.texts[line.input_index]} if request.return_text else {}),
        }
        for line in ranking
    ]


def _documents_answer(
    request: DocumentsRerank, ranking: Ranking, texts: list[str], model: str, version: str, tokens: int | None
) -> dict[str, Any]:
    raw = request.raw_scores or request.use_activation is False
    results: list[dict[str, Any]] = []
    for line in ranking[: request.top_n or None]:
        results.append({"index": line.input_index, "relevance_score": line.logit if raw else line.score})
        if request.return_documents:
            given = request.documents[line.input_index]
            # An object comes back as it was, a string as an object: clients read document["text"].
            results[-1]["document"] = given if isinstance(given, dict) else {"text": texts[line.input_index]}
    return {
        **_head("rerank", model),
        "results": results,
        **({} if tokens is None else {"usage": {"total_tokens": tokens, "prompt_tokens": tokens}}),
        "meta": {
            "api_version": {"version": version},
            "billed_units": {"search_units": 1},
            **({} if tokens is None else {"tokens": {"input_tokens": tokens, "output_tokens": 0}}),
        },
    }


def _add_state(router: APIRouter, engine: Engine, metrics: Metrics) -> None:
    @router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    @router.head("/health", include_in_schema=False)
    @router.get("/health", summary="Alive?")
    async def health() -> Response:
        """Say that the process answers; whether it takes work is `/ready`."""
        return Json({"status": "ok"})

    @router.get("/ready", summary="Ready?", responses={503: {"description": "Being loaded, or stopping."}})
    async def ready() -> Response:
        """Say whether requests should be sent here: not before the model is loaded, nor once the server stops."""
        state = "draining" if engine.draining else "ready" if engine.ready else "loading"
        return Json({"status": state}, status_code=200 if state == "ready" else 503)

    @router.get("/info", summary="What is served")
    async def info() -> Response:
        """Say what is served, as Text Embeddings Inference does."""
        return Json(engine.info())

    @router.get("/v1/models", summary="Models")
    async def models() -> Response:
        """List the names that requests may give as `model`."""
        listed = [{"id": name, "object": "model", "owned_by": "biorerank"} for name in engine.names]
        return Json({"object": "list", "data": listed})

    @router.get("/metrics", summary="Metrics")
    async def shown() -> Response:
        """Show counters in Prometheus' text form."""
        page = await asyncio.get_running_loop().run_in_executor(None, metrics.page)
        return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")
