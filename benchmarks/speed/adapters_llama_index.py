"""LlamaIndex: the postprocessor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.schema import NodeWithScore, TextNode

from benchmarks.speed.adapters import TEMPLATE, TOP, Scores, Work
from biorerank_plugins import Candidate
from biorerank_plugins.llama_index import BioRerankPostprocessor


def ranked(model: Any, question: str, candidates: Sequence[Candidate]) -> Scores:
    nodes = nodes_of(candidates)
    adapter = BioRerankPostprocessor(model, top_n=TOP, template=TEMPLATE)
    return lambda: [node.score or 0.0 for node in adapter.postprocess_nodes(nodes, query_str=question)]


def works(candidates: Sequence[Candidate]) -> Mapping[str, Work]:
    nodes = nodes_of(candidates)
    adapter = BioRerankPostprocessor(top_n=TOP, template=TEMPLATE)

    async def postprocessor(question: str) -> object:
        return await adapter.apostprocess_nodes(list(nodes), query_str=question)

    return {"postprocessor": postprocessor}


def nodes_of(candidates: Sequence[Candidate]) -> list[NodeWithScore]:
    return [
        NodeWithScore(
            node=TextNode(
                id_=one.passage.id, text=one.passage.text, metadata={**one.passage.metadata, "title": one.passage.title}
            ),
            score=one.score,
        )
        for one in candidates
    ]
