"""The rerankers of LlamaIndex and Haystack: their classes where they are installed, else the same call without them."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from biorerank_plugins.speed.rerankers import baseline_model, by_batch_size, pairs_of
from biorerank_plugins.speed.systems import Setting, System

if TYPE_CHECKING:
    from biorerank_plugins.speed.texts import Request

__all__ = ["haystack", "llama_index"]

HAYSTACK_BATCH_SIZE = 16


def llama_index(setting: Setting) -> System:
    """``SentenceTransformerRerank``: ``CrossEncoder.predict`` with its default batch size."""
    model = baseline_model(setting)
    bare = by_batch_size(model, "float32", 32, "fp32")
    try:
        from llama_index.core.schema import NodeWithScore, TextNode
        from llama_index.postprocessor.sbert_rerank import SentenceTransformerRerank
    except ImportError:
        return replace(bare, way=f"{bare.way}: what LlamaIndex calls (it is not installed)")

    hosted: Any = SentenceTransformerRerank(
        model=str(setting.folder),
        device=setting.device,
        top_n=1,
        cross_encoder_kwargs={"max_length": setting.max_length, "local_files_only": True},
    )
    hosted._model = model  # the weights of the baseline, whose precision is known

    def prepare(request: Request) -> Any:
        nodes = [NodeWithScore(node=TextNode(id_=str(n), text=text)) for n, text in enumerate(request.texts)]
        return request.query, nodes

    def call(given: Any) -> Any:
        query, nodes = given
        hosted.top_n = len(nodes)
        return hosted.postprocess_nodes(nodes, query_str=query)

    def values(nodes: Any) -> Any:
        scores = np.empty(len(nodes))
        for node in nodes:
            scores[int(node.node.node_id)] = node.score
        return scores

    return replace(bare, way="LlamaIndex SentenceTransformerRerank, fp32", prepare=prepare, call=call, values=values)


def haystack(setting: Setting) -> System:
    """``SentenceTransformersSimilarityRanker``: ``CrossEncoder.rank`` in batches of 16."""
    os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")
    model = baseline_model(setting)
    bare = by_batch_size(model, "float32", HAYSTACK_BATCH_SIZE, "fp32")
    try:
        from haystack import Document
        from haystack_integrations.components.rankers.sentence_transformers import SentenceTransformersSimilarityRanker
    except ImportError:
        return _haystack_call(model, bare)

    hosted: Any = SentenceTransformersSimilarityRanker(model=str(setting.folder), token=None)
    hosted._cross_encoder = model  # the weights of the baseline, whose precision is known

    def prepare(request: Request) -> Any:
        return request.query, [Document(id=str(n), content=text) for n, text in enumerate(request.texts)]

    def call(given: Any) -> Any:
        query, documents = given
        return hosted.run(query=query, documents=documents, top_k=len(documents))["documents"]

    def values(documents: Any) -> Any:
        scores = np.empty(len(documents))
        for document in documents:
            scores[int(document.id)] = document.score
        return scores

    return replace(
        bare,
        way="Haystack SentenceTransformersSimilarityRanker, fp32",
        prepare=prepare,
        call=call,
        values=values,
        are_logits=False,  # it asks for the sigmoid, whatever the model's activation
    )


def _haystack_call(model: Any, bare: System) -> System:
    import torch

    def call(pairs: Any) -> Any:
        return model.rank(
            pairs[0][0],
            [text for _, text in pairs],
            batch_size=HAYSTACK_BATCH_SIZE,
            activation_fn=torch.nn.Sigmoid(),
            show_progress_bar=False,
        )

    def values(lines: Any) -> Any:
        scores = np.empty(len(lines))
        for line in lines:
            scores[line["corpus_id"]] = line["score"]
        return scores

    way = f"CrossEncoder.rank, fp32, batch_size={HAYSTACK_BATCH_SIZE}: what Haystack calls (it is not installed)"
    return replace(bare, way=way, prepare=pairs_of, call=call, values=values, are_logits=False)
