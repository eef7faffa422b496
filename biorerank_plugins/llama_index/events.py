"""What LlamaIndex is told of a reranking: its instrumentation, and the older callbacks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.events.exception import ExceptionEvent
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.schema import NodeWithScore, QueryBundle

from biorerank_plugins import models
from biorerank_plugins.llama_index.nodes import query_text

dispatcher = get_dispatcher(__name__)


@contextmanager
def reported(
    reranker: Any, nodes: Sequence[NodeWithScore], query_bundle: QueryBundle | None
) -> Iterator[tuple[str, list[NodeWithScore], list[NodeWithScore]]]:
    """Report start and end, or an error; gives the question, the nodes, and a list for those that come out."""
    result: list[NodeWithScore] = []
    name = models.DEFAULT_RERANKER if reranker.model is None else reranker.model
    name = os.fspath(name) if isinstance(name, (str, os.PathLike)) else type(name).__name__
    try:
        given = list(nodes)
        dispatcher.event(ReRankStartEvent(query=query_bundle, nodes=given, top_n=reranker.top_n, model_name=name))
        query = query_text(query_bundle)
        payload: dict[str, Any] = {
            EventPayload.NODES: given,
            EventPayload.MODEL_NAME: name,
            EventPayload.QUERY_STR: query,
            EventPayload.TOP_K: reranker.top_n,
        }
        with reranker.callback_manager.event(CBEventType.RERANKING, payload=payload) as event:
            yield query, given, result
            event.on_end(payload={EventPayload.NODES: result})
    except BaseException as error:
        dispatcher.event(ExceptionEvent(exception=error))
        raise
    dispatcher.event(ReRankEndEvent(nodes=result))
