"""What the LlamaIndex classes share: nodes as passages and back, what the host is told, settings that are saved."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Self

from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.events.exception import ExceptionEvent
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.schema import (
    BaseComponent,
    BaseNode,
    IndexNode,
    MetadataMode,
    NodeWithScore,
    QueryBundle,
    QueryType,
    TextNode,
)
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

from biorerank_plugins import models
from biorerank_plugins.adapters_common import MARKS, HostTexts, kept_score, ranking_marks, title_of
from biorerank_plugins.passages import Candidate, Passage, RankedPassage, Ranking

dispatcher = get_dispatcher(__name__)

RETRIEVAL_SCORE = "retrieval_score"
"""Metadata key of the first stage's score, as LlamaIndex's own rerankers name it."""

_HIDDEN = (RETRIEVAL_SCORE, *MARKS)  # from EMBED and LLM text
_NODE_CONTENT = "_node_content"  # as LlamaIndex's vector stores name it


class FoundNode(NodeWithScore):
    """A node as :class:`~biorerank_plugins.llama_index.BioRetriever` found it: it remembers what its score is.

    Not in the node's metadata, because ``QueryFusionRetriever`` tells nodes apart by it, and not without the score
    itself, because LlamaIndex puts other scores in its place (a fused rank, a rerank score).
    """

    first_stage: str | None = None
    first_stage_score: float | None = None


class SavedBySettings(BaseComponent):
    """A component that is pickled and copied by what :meth:`to_dict` holds; models, locks and threads stay behind."""

    def __reduce__(self) -> tuple[Any, ...]:
        # LlamaIndex's way drops what cannot be pickled with no more than a line in the log.
        return type(self).from_dict, (self.to_dict(),)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return type(self)(**dict(self))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy; one with other settings is made of them anew: they are checked, and they are what counts."""
        return type(self)(**{**dict(self), **update}) if update else super().model_copy(deep=deep)


def query_text(query: QueryType | None) -> str:
    """Return the question of a query bundle, or a string: some of LlamaIndex's engines hand on what they were given."""
    text = query.query_str if isinstance(query, QueryBundle) else query
    if text is None:
        raise ValueError("There is no query: pass query_str='…' or query_bundle=QueryBundle('…'), got None.")
    return text


def node_candidate(one: NodeWithScore, rank: int, texts: HostTexts) -> Candidate:
    """Return a node as a candidate of the reranker."""
    node = one.node
    passage = texts.passage(
        node.node_id or str(rank),
        node.get_content(metadata_mode=MetadataMode.NONE) or "",
        node.metadata,
        partial(_embed_text, node),
        title_key="" if "title" in node.excluded_embed_metadata_keys else "title",
    )
    # An earlier reranker has put its own score into the node, and the first stage's aside.
    earlier = kept_score(node.metadata.get(RETRIEVAL_SCORE))
    score = kept_score(one.score) if earlier is None else earlier
    # Whatever has put another score in the place of the first stage's knows nothing of its name.
    first_stage = one.first_stage if isinstance(one, FoundNode) and one.first_stage_score == score else None
    return Candidate(passage, score, rank, first_stage)


def reranked_node(
    one: NodeWithScore, ranking: Ranking, ranked: RankedPassage, *, keep_retrieval_score: bool
) -> NodeWithScore:
    """Return a copy of a node with its new score, and with the first stage's in its metadata if that is asked for."""
    metadata = {key: value for key, value in one.node.metadata.items() if key not in _HIDDEN}
    metadata |= ranking_marks(ranking, ranked)
    if keep_retrieval_score and ranked.retrieval_score is not None:
        metadata[RETRIEVAL_SCORE] = ranked.retrieval_score
    return one.model_copy(update={"node": _copy(one.node, metadata), "score": ranked.score})


def _copy(node: BaseNode, metadata: dict[str, Any]) -> BaseNode:
    """Return a copy of a node with other metadata, of which no model and no LLM reads what we wrote."""
    excluded = ("excluded_embed_metadata_keys", "excluded_llm_metadata_keys")
    hidden = [key for key in _HIDDEN if key in metadata]
    lists = {name: list(dict.fromkeys([*getattr(node, name), *hidden])) for name in excluded}
    return node.model_copy(update={"metadata": metadata, "relationships": dict(node.relationships), **lists})


def _embed_text(node: BaseNode) -> str:
    shown = _copy(node, node.metadata) if any(key in node.metadata for key in _HIDDEN) else node
    try:
        return shown.get_content(metadata_mode=MetadataMode.EMBED) or ""
    except RecursionError:
        raise ValueError(
            f"The metadata of node {node.node_id!r} nest too deeply to be read as text; put their key into "
            "excluded_embed_metadata_keys."
        ) from None


def node_passage(node: BaseNode) -> Passage:
    """Return a node as a passage of an index, from which :func:`found_node` makes the node again.

    :param node: the node; what an ``IndexNode`` points to is left out.
    :raises ValueError: if its metadata is not JSON.
    """
    if isinstance(node, IndexNode):
        node = node.model_copy(update={"obj": None})
    try:
        metadata = node_to_metadata_dict(node, remove_text=True)
    except ValueError as error:
        raise ValueError(f"The metadata of node {node.node_id!r} cannot be stored as JSON: {error}") from error
    # LlamaIndex writes the ids of the source document over keys of these names.
    over = {"document_id", "doc_id", "ref_doc_id"} & node.metadata.keys()
    own = {key: node.metadata[key] for key in over}
    text = node.get_content(metadata_mode=MetadataMode.NONE) or ""
    return Passage(node.node_id, text, title_of(node.metadata), {**metadata, **own})


def found_node(candidate: Candidate) -> FoundNode:
    """Return what an index found as a new node; if it never was one, the title goes into the metadata."""
    passage = candidate.passage.to_dict()
    metadata = passage["metadata"]
    if _NODE_CONTENT in metadata:
        node = metadata_dict_to_node(metadata, text=passage["text"])
        node.metadata.pop(RETRIEVAL_SCORE, None)  # of an earlier question
    else:
        titled = {} if passage["title"] is None else {"title": passage["title"]}
        node = TextNode(id_=passage["id"], text=passage["text"], metadata={**titled, **metadata})
    return FoundNode(
        node=node, score=candidate.score, first_stage=candidate.first_stage, first_stage_score=candidate.score
    )


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
