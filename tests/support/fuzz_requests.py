"""Fuzz targets that come over a wire or from a host: filters, requests to our server, answers of somebody's server."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from support.spoil import Target, as_json, spoil_bytes, spoil_settings, spoil_tree

_HAYSTACK = {
    "operator": "AND",
    "conditions": [
        {"field": "meta.year", "operator": ">=", "value": 1998},
        {"operator": "NOT", "conditions": [{"field": "id", "operator": "in", "value": ["a", 1, None]}]},
        {"field": "meta.date", "operator": "<", "value": "2020-05-01"},
    ],
}
_LLAMA_INDEX = {
    "condition": "or",
    "filters": [
        {"key": "year", "operator": ">", "value": 1998},
        {"key": "title", "operator": "nin", "value": ["a", "b"]},
        {"condition": "not", "filters": [{"key": "a.b", "operator": "any", "value": ["x"]}]},
    ],
}
_REQUESTS = (
    {"query": "What is p53?", "texts": ["a", "b"], "raw_scores": True, "truncate": True},
    {"query": "What is p53?", "documents": ["a", {"text": "b", "title": "c"}], "top_n": 1, "rank_fields": ["text"]},
    {"query": "What is p53?", "top_k": 3, "filters": {"year": {">=": 2015}}, "evidence": 1, "fusion": 0.2},
)
_ANSWERS = (
    [{"index": 0, "score": 0.5}, {"index": 1, "score": -3}],
    {"results": [{"index": 1, "relevance_score": 0.5}, {"index": 0, "relevance_score": 0.1}]},
)


def request_targets() -> dict[str, Target]:
    """Return a target for everything that is neither a file nor a saved component."""
    found = {"haystack filter": Target(_haystack_filter, (ValueError,), (_HAYSTACK,), spoil_settings)}
    found["llama_index filter"] = Target(_llama_index_filter, (ValueError,), (_LLAMA_INDEX,), spoil_settings)
    for shape in ("tei", "cohere", "jina", "vllm"):
        found[f"answer of a {shape} server"] = Target(_answer(shape), _REFUSED, _ANSWERS, _spoil_answer)
    requests = tuple(json.dumps(request).encode() for request in _REQUESTS)
    found["request to the server"] = Target(_request, (ValueError, RecursionError), requests, _spoil_request)
    return found


def _haystack_filter(given: Any) -> None:
    from biorerank_plugins.first_stage.filters import compile_filter
    from biorerank_plugins.haystack.document_filters import translated

    try:
        compile_filter(translated(given))
    except TypeError as error:  # of the index, when it is asked: a value that it knows nothing about
        raise ValueError(str(error)) from error


def _llama_index_filter(given: Any) -> None:
    from llama_index.core.vector_stores.types import MetadataFilters

    from biorerank_plugins.llama_index.metadata_filters import index_filter

    try:
        filters = MetadataFilters.model_validate(given)
    except (TypeError, ValueError, AttributeError, RecursionError) as error:  # LlamaIndex's own refusal
        raise ValueError("no filters of LlamaIndex") from error
    index_filter(filters)


# What our client of rerankers takes for a bad answer (scoring/remote.py), and reports as such.
_REFUSED = (ValueError, TypeError, KeyError)


def _answer(shape: str) -> Callable[[Any], None]:
    from biorerank_plugins.scoring.remote.shapes import SHAPES, logits_of

    def run(given: Any) -> None:
        for raw in (True, False):
            logits = logits_of(given, SHAPES[shape], 2, raw=raw)
            if len(logits) != 2 or any(logit - logit != 0 for logit in logits):
                raise AssertionError(f"these logits came out: {logits!r}")

    return run


def _spoil_answer(good: Any, chance: random.Random) -> Any:
    return spoil_tree(good, chance, depths=(1, 60))


def _spoil_request(good: bytes, chance: random.Random) -> bytes:
    return spoil_bytes(good, chance) if chance.random() < 0.4 else as_json(spoil_tree(json.loads(good), chance))


def _request(given: bytes) -> None:
    """As the server does it: JSON, then the schema; a request that is refused is answered with 4xx."""
    from pydantic import TypeAdapter

    from biorerank_plugins.serve.schemas import AnyRerank, DocumentsRerank, SearchRequest

    body = json.loads(given)
    for kind in (AnyRerank, SearchRequest):
        try:
            request = _ADAPTERS.setdefault(str(kind), TypeAdapter(kind)).validate_python(body)
        except ValueError:
            continue
        if isinstance(request, DocumentsRerank):
            request.texts()


_ADAPTERS: dict[str, Any] = {}
