"""Processes that hosts start: workers that are handed an index, a search or a retriever, and LlamaIndex's ingestion.

With the embedded models: a process that is spawned need not import transformers for them.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.pool import Pool
from typing import Any

import pytest
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.schema import TextNode

from biorerank_plugins import BiEncoder, BioReranker, PassageIndex, TwoStageSearch, haystack, langchain, llama_index
from biorerank_plugins.scale import ShardedIndex

TEXTS = ["aspirin inhibits platelets", "insulin lowers glucose", "the heart", "cells divide", "tumour growth"]
QUERY = "which drug inhibits platelets"

Found = list[tuple[str, float | None]]
FIND: dict[str, Callable[[Any], Found]] = {
    "index": lambda one: [(found.passage.id, found.score) for found in one.search(QUERY, 3)],
    "shards": lambda one: [(found.passage.id, found.score) for found in one.search(QUERY, 3)],
    "two stages": lambda one: [(found.passage.id, found.score) for found in one.search(QUERY)],
    "LlamaIndex": lambda one: [(found.node.node_id, found.score) for found in one.retrieve(QUERY)],
    "LangChain": lambda one: [(found.id, found.metadata["retrieval_score"]) for found in one.invoke(QUERY)],
    "Haystack": lambda one: [(found.id, found.score) for found in one.run(query=QUERY)["documents"]],
}


def find(kind: str, handed: Any) -> tuple[int, Found]:
    """Search in the worker with what it was handed; the worker's id comes along."""
    return os.getpid(), FIND[kind](handed)


def score(handed: BioReranker) -> tuple[int, list[float]]:
    """Score in the worker, and close there what it was handed."""
    with handed:
        return os.getpid(), handed.score(QUERY, TEXTS)


@pytest.fixture(scope="module")
def worker() -> Iterator[Pool]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        yield pool


@pytest.fixture(scope="module")
def handed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("handed")
    encoder = BiEncoder(device="cpu", dtype="float32")
    PassageIndex.build(TEXTS, encoder=encoder).save(folder / "index")
    ShardedIndex.build(TEXTS, folder / "shards", shards=2, encoder=encoder)
    index = PassageIndex.load(folder / "index", encoder=encoder)
    reranker = BioReranker(device="cpu", dtype="float32")
    return {
        "index": index,
        "shards": ShardedIndex.load(folder / "shards", encoder=encoder),
        "two stages": TwoStageSearch(index, reranker),
        "LlamaIndex": llama_index.BioRetriever(index, similarity_top_k=3),
        "LangChain": langchain.BioRetriever(index=index, k=3),
        "Haystack": haystack.BioRetriever(index=index, top_k=3),
    }


@pytest.mark.parametrize("kind", FIND)
def test_a_spawned_worker_finds_what_its_parent_finds(kind: str, handed: dict[str, Any], worker: Pool):
    process, found = worker.apply(find, (kind, handed[kind]))
    expected = FIND[kind](handed[kind])
    assert process != os.getpid()
    assert len(expected) >= 3
    assert [id_ for id_, _ in found] == [id_ for id_, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-5)


def test_a_reranker_scores_in_a_spawned_worker_as_here_to_the_bit(worker: Pool):
    reranker = BioReranker(device="cpu", dtype="float32", cache_bytes=0)
    expected = reranker.score(QUERY, TEXTS)
    process, found = worker.apply(score, (reranker,))
    assert process != os.getpid()
    assert found == expected
    assert reranker.score(QUERY, TEXTS) == expected  # what was closed is another one


def test_llama_index_ingests_with_two_workers():
    """``run`` spawns its workers; ``arun`` starts them as the system does, which on Linux forks until Python 3.14."""
    nodes = [TextNode(id_=str(number), text=text) for number, text in enumerate(TEXTS)]
    embedding = llama_index.BioEmbedding(device="cpu", dtype="float32")
    expected = {node.node_id: pytest.approx(embedding.get_text_embedding(node.text), abs=1e-5) for node in nodes}
    pipeline = IngestionPipeline(transformations=[embedding], disable_cache=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a machine with one processor takes one worker
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: that a process with threads forks
        spawned = pipeline.run(nodes=nodes, num_workers=2, in_place=False)
        forked = asyncio.run(pipeline.arun(nodes=nodes, num_workers=2, in_place=False))
    assert {node.node_id: node.embedding for node in spawned} == expected
    assert {node.node_id: node.embedding for node in forked} == expected
