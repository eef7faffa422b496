"""The components where they are used: pipelines, saved pipelines, hybrids, agents, whole collections."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from haystack import Document, Pipeline, component
from haystack.components.agents import Agent
from haystack.components.joiners import DocumentJoiner
from haystack.components.retrievers import InMemoryBM25Retriever, InMemoryEmbeddingRetriever
from haystack.components.writers import DocumentWriter
from haystack.dataclasses import ChatMessage, ToolCall
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.tools import ComponentTool
from haystack.utils import ComponentDevice
from support.haystack import QUERY, documents, ids

from biorerank_plugins import BiEncoder, BioReranker, Passage, PassageIndex, TwoStageSearch, demo
from biorerank_plugins.haystack import BioDocumentEmbedder, BioRanker, BioRetriever, BioTextEmbedder
from biorerank_plugins.readers import read_passages

CPU = ComponentDevice.from_str("cpu")
KEY = "biorerank_retrieval_score"


@pytest.fixture(scope="module")
def encoder(tiny_encoder_dir: Path) -> BiEncoder:
    return BiEncoder(tiny_encoder_dir, device="cpu", dtype="float32")


@pytest.fixture
def ranker(tiny_cross_encoder_dir: Path) -> BioRanker:
    return BioRanker(model=tiny_cross_encoder_dir, device=CPU, dtype="float32", top_k=4)


@pytest.fixture
def index_folder(encoder: BiEncoder, tmp_path: Path) -> Path:
    folder = tmp_path / "index"
    index = PassageIndex.build(
        [Passage(one.id, one.content, metadata=one.meta) for one in documents()], encoder=encoder
    )
    index.save(folder)
    index.close()
    return folder


def two_stages(retriever: BioRetriever, ranker: BioRanker) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("retriever", retriever)
    pipeline.add_component("ranker", ranker)
    pipeline.connect("retriever", "ranker")
    return pipeline


def ask(query: str) -> dict:
    return {"retriever": {"query": query}, "ranker": {"query": query}}


# Our two stages


def test_a_pipeline_gives_what_two_stage_search_gives(encoder, tiny_cross_encoder_dir, index_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_cross_encoder_dir, folder)
    weights = {f"hybrid/{encoder.model_id}": 3.0, encoder.model_id: 3.0, "lexical": 3.0}
    (folder / "biorerank.json").write_text(json.dumps({"template": "{title}. {text}", "fusion": weights}))
    index = PassageIndex.load(index_folder, encoder=encoder)
    core = BioReranker(folder, device="cpu", dtype="float32")
    for first_stage in ("hybrid", "dense", "lexical"):
        expected = TwoStageSearch(index, core, first_stage=first_stage).search(QUERY, candidates=5)
        pipeline = two_stages(
            BioRetriever(index, first_stage=first_stage, top_k=5), BioRanker(model=folder, device=CPU, dtype="float32")
        )
        found = pipeline.run(ask(QUERY))["ranker"]["documents"]
        assert [(one.id, one.score, one.meta[KEY]) for one in found] == [
            (line.passage.id, line.score, line.retrieval_score) for line in expected
        ]


def test_a_pipeline_runs_async_and_many_times(ranker, index_folder):
    pipeline = two_stages(BioRetriever(index_folder, top_k=5), ranker)
    expected = pipeline.run(ask(QUERY))

    async def many():
        return await asyncio.gather(*(pipeline.run_async(ask(QUERY)) for _ in range(5)))

    assert all(result == expected for result in asyncio.run(many()))
    pipeline.close()
    pipeline.close()
    assert pipeline.run(ask(QUERY)) == expected
    assert asyncio.run(_closed(pipeline)) is None


async def _closed(pipeline: Pipeline) -> None:
    await pipeline.close_async()


# Saved pipelines

FRESH = """
import json, sys
from haystack import Pipeline
assert not any(name.startswith("biorerank") for name in sys.modules)
with open(sys.argv[1], encoding="utf-8") as file:
    pipeline = Pipeline.load(file)
result = pipeline.run(json.loads(sys.argv[2]))
found = result["ranker"]["documents"]
print(json.dumps({"documents": [one.to_dict() for one in found], "vector": result["embedder"]["embedding"]}))
"""


def test_a_saved_pipeline_loads_in_a_process_that_never_imported_us(ranker, index_folder, tiny_encoder_dir, tmp_path):
    pipeline = two_stages(BioRetriever(index_folder, top_k=5, first_stage="dense"), ranker)
    pipeline.add_component("embedder", BioTextEmbedder(model=tiny_encoder_dir, device=CPU, dtype="float32"))
    pipeline.add_component("indexer", BioDocumentEmbedder(model=tiny_encoder_dir, device=CPU, dtype="float32"))
    data = {**ask(QUERY), "embedder": {"text": QUERY}, "indexer": {"documents": []}}
    expected = pipeline.run(data)
    file = tmp_path / "pipeline.yaml"
    file.write_text(pipeline.dumps(), encoding="utf-8")
    again = Pipeline.loads(pipeline.dumps())
    assert again.dumps() == pipeline.dumps()
    assert again.run(data) == expected

    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "HAYSTACK"))}
    result = subprocess.run(
        [sys.executable, "-c", FRESH, str(file), json.dumps(data)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**clean, "HAYSTACK_TELEMETRY_ENABLED": "False"},
    )
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["documents"] == [one.to_dict() for one in expected["ranker"]["documents"]]
    assert answer["vector"] == expected["embedder"]["embedding"]


# The host's own stores and retrievers


def test_embedders_and_the_in_memory_store_find_what_our_index_finds(encoder, tiny_encoder_dir):
    store = InMemoryDocumentStore(embedding_similarity_function="dot_product")
    indexing = Pipeline()
    indexing.add_component("embedder", BioDocumentEmbedder(model=tiny_encoder_dir, device=CPU, dtype="float32"))
    indexing.add_component("writer", DocumentWriter(store))
    indexing.connect("embedder", "writer")
    assert indexing.run({"embedder": {"documents": documents()}})["writer"]["documents_written"] == 6
    search = Pipeline()
    search.add_component("embedder", BioTextEmbedder(model=tiny_encoder_dir, device=CPU, dtype="float32"))
    search.add_component("retriever", InMemoryEmbeddingRetriever(store, scale_score=False))
    search.connect("embedder.embedding", "retriever.query_embedding")
    found = search.run({"embedder": {"text": QUERY}})["retriever"]["documents"]
    ours = BioRetriever(documents=documents(), encoder=encoder, first_stage="dense").run(QUERY)["documents"]
    assert [one.id for one in found] == [one.id for one in ours]
    assert [one.score for one in found] == pytest.approx([one.score for one in ours], abs=1e-5)


@pytest.mark.parametrize("mode", ["concatenate", "merge", "reciprocal_rank_fusion", "distribution_based_rank_fusion"])
def test_a_hybrid_of_the_hosts_bm25_and_our_index(encoder, tiny_cross_encoder_dir, mode):
    store = InMemoryDocumentStore()
    store.write_documents(documents())
    hybrid = Pipeline()
    hybrid.add_component("meaning", BioRetriever(documents=documents(), encoder=encoder, top_k=5))
    hybrid.add_component("words", InMemoryBM25Retriever(store, top_k=5))
    hybrid.add_component("joiner", DocumentJoiner(join_mode=mode))
    hybrid.add_component("ranker", BioRanker(model=tiny_cross_encoder_dir, device=CPU, dtype="float32"))
    hybrid.connect("meaning", "joiner")
    hybrid.connect("words", "joiner")
    hybrid.connect("joiner", "ranker")
    query = {name: {"query": QUERY} for name in ("meaning", "words", "ranker")}
    result = hybrid.run(query, include_outputs_from={"joiner", "meaning"})
    found = result["ranker"]["documents"]
    core = BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32", template="{text}")
    expected = core.rank(QUERY, [Passage(one.id, one.content) for one in result["joiner"]["documents"]])
    assert [(one.id, one.score) for one in found] == [(line.passage.id, line.score) for line in expected]
    # The joiner overwrites scores; the index's own is the one that is kept.
    own = {one.id: one.score for one in result["meaning"]["documents"]}
    assert any(KEY in one.meta and one.meta[KEY] == own.get(one.id) for one in found)


# Agents


@component
class Scripted:
    """A chat generator that calls a tool once, then repeats what the tool said."""

    def __init__(self, tool: str, arguments: dict) -> None:
        self.tool, self.arguments = tool, arguments

    @component.output_types(replies=list[ChatMessage])
    def run(self, messages: list[ChatMessage], tools: list | None = None) -> dict:
        last = messages[-1]
        if last.tool_call_results:
            return {"replies": [ChatMessage.from_assistant(last.tool_call_results[0].result)]}
        return {"replies": [ChatMessage.from_assistant(tool_calls=[ToolCall(self.tool, self.arguments)])]}


def _texts(found: list[Document]) -> str:
    return "\n".join(one.content or "" for one in found)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_agent_searches_and_ranks(encoder, tiny_cross_encoder_dir, asynchronous):
    retriever = BioRetriever(documents=documents(), encoder=encoder, top_k=3)
    as_text = {"source": "documents", "handler": _texts}
    tool = ComponentTool(retriever, name="search", description="Find passages.", outputs_to_string=as_text)
    assert tool.parameters["required"] == ["query"]
    assert set(tool.parameters["properties"]) == {"query", "filters", "top_k"}
    recent = {"field": "meta.year", "operator": ">=", "value": 2002}
    agent = Agent(chat_generator=Scripted("search", {"query": QUERY, "filters": recent, "top_k": 2}), tools=[tool])
    messages = [ChatMessage.from_user(QUERY)]
    answer = asyncio.run(agent.run_async(messages)) if asynchronous else agent.run(messages)
    assert answer["last_message"].text == _texts(retriever.run(QUERY, filters=recent, top_k=2)["documents"])

    ranker = BioRanker(model=tiny_cross_encoder_dir, device=CPU, dtype="float32")
    rank = ComponentTool(
        ranker,
        name="rank",
        description="Rank the passages found.",
        inputs_from_state={"documents": "documents"},
        outputs_to_state={"ranked": {"source": "documents"}},
        outputs_to_string=as_text,
    )
    assert rank.parameters["required"] == ["query"]
    agent = Agent(
        chat_generator=Scripted("rank", {"query": QUERY, "top_k": 2}),
        tools=[rank],
        state_schema={"documents": {"type": list[Document]}, "ranked": {"type": list[Document]}},
    )
    given = documents()
    answer = (
        asyncio.run(agent.run_async(messages, documents=given))
        if asynchronous
        else agent.run(messages, documents=given)
    )
    expected = ranker.run(query=QUERY, documents=given, top_k=2)["documents"]
    assert [(one.id, one.score) for one in answer["ranked"]] == [(one.id, one.score) for one in expected]


def test_documents_as_a_language_model_writes_them(ranker):
    tool = ComponentTool(ranker)
    given = [{"id": "1", "content": "p53 tumours"}, {"id": "2", "content": "insulin"}]
    found = tool.invoke(query=QUERY, documents=given)
    assert sorted(ids(found)) == ["1", "2"]


def test_a_tool_is_saved_with_its_component(ranker):
    tool = ComponentTool(ranker, name="rank", description="Rank.")
    again = ComponentTool.from_dict(json.loads(json.dumps(tool.to_dict())))
    assert again.invoke(query=QUERY, documents=documents()) == tool.invoke(query=QUERY, documents=documents())


# Whole collections, with the embedded models


def _same_as_the_core(passages: list[Passage], query: str) -> None:
    encoder = BiEncoder(device="cpu", dtype="float32")
    index = PassageIndex.build(passages, encoder=encoder)
    expected = TwoStageSearch(index, BioReranker(device="cpu", dtype="float32")).search(query, candidates=10, top_k=5)
    pipeline = two_stages(BioRetriever(index, top_k=10), BioRanker(device=CPU, dtype="float32", top_k=5))
    found = pipeline.run(ask(query))["ranker"]["documents"]
    assert [one.id for one in found] == [line.passage.id for line in expected]
    assert [one.score for one in found] == pytest.approx([line.score for line in expected], abs=1e-6)


def test_the_demo_collection(no_network):
    folder = Path(demo.__file__).parent
    query = json.loads((folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()[0])["text"]
    _same_as_the_core(list(itertools.islice(read_passages(folder / "corpus.jsonl"), 30)), query)


@pytest.mark.data
def test_passages_of_bioasq(data_dir, no_network):
    folder = data_dir / "bioasq"
    with gzip.open(folder / "dev.jsonl.gz", "rt", encoding="utf-8") as file:
        line = json.loads(next(file))
    query = line["question"]
    _same_as_the_core(list(itertools.islice(read_passages(folder / "corpus.jsonl.gz"), 30)), query)
