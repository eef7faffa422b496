"""Whole LlamaIndex applications: query engine, chat engine, LlamaIndex's own FAISS store; without a network."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from pathlib import Path

import faiss
import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.chat_engine import CondensePlusContextChatEngine, ContextChatEngine
from llama_index.core.llms import MockLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import MetadataMode, TextNode
from llama_index.vector_stores.faiss import FaissVectorStore

from biorerank_plugins import BiEncoder, BioReranker, PassageIndex, TwoStageSearch, models
from biorerank_plugins._common.versions import install_line
from biorerank_plugins.llama_index import BioEmbedding, BioRerankPostprocessor, BioRetriever
from biorerank_plugins.readers import read_passages, read_queries

QUERY = "is p53 a tumour suppressor"
TEXTS = [
    "aspirin inhibits platelets",
    "p53 suppresses tumours",
    "the heart and the liver",
    "p53 is a tumour suppressor gene",
    "insulin lowers glucose in patients with diabetes",
    "brca1 is a tumour suppressor gene",
]
pytestmark = pytest.mark.usefixtures("no_network")


def nodes() -> list[TextNode]:
    return [
        TextNode(id_=f"n{i}", text=text, metadata={"title": f"title {i}", "pmid": str(i)})
        for i, text in enumerate(TEXTS)
    ]


@pytest.fixture(scope="module")
def embedding(tiny_encoder_dir: Path) -> BioEmbedding:
    return BioEmbedding(tiny_encoder_dir, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def retriever(tiny_encoder_dir: Path) -> BioRetriever:
    encoder = BiEncoder(tiny_encoder_dir, device="cpu", dtype="float32")
    return BioRetriever.from_nodes(nodes(), encoder=encoder, similarity_top_k=6)


@pytest.fixture(scope="module")
def reranker(tiny_cross_encoder_dir: Path) -> BioRerankPostprocessor:
    return BioRerankPostprocessor(tiny_cross_encoder_dir, top_n=3, device="cpu", dtype="float32")


def best(reranker: BioRerankPostprocessor) -> list[str]:
    """The three best, worked out with the core from the text that LlamaIndex would embed."""
    core = BioReranker(reranker.model, device="cpu", dtype="float32", template="{text}")
    ranking = core.rank(QUERY, [node.get_content(MetadataMode.EMBED) for node in nodes()], top_k=3)
    return [f"n{line.input_index}" for line in ranking]


def check(source_nodes, reranker: BioRerankPostprocessor, answer: str) -> None:
    assert [one.node_id for one in source_nodes] == best(reranker)
    assert all(one.metadata["retrieval_score"] is not None for one in source_nodes)
    assert "retrieval_score" not in answer
    assert "biorerank" not in answer


def test_query_engine_over_our_retriever(retriever, reranker):
    engine = RetrieverQueryEngine.from_args(retriever, llm=MockLLM(), node_postprocessors=[reranker])
    for response in (engine.query(QUERY), asyncio.run(engine.aquery(QUERY))):
        check(response.source_nodes, reranker, str(response))
        assert "p53" in str(response), "the mock returns the prompt"
        assert str(response).index(TEXTS[int(best(reranker)[0][1:])]) < str(response).index(QUERY)


@pytest.mark.parametrize("engine_class", [ContextChatEngine, CondensePlusContextChatEngine])
def test_chat_engines(retriever, reranker, engine_class):
    engine = engine_class.from_defaults(
        retriever=retriever, llm=MockLLM(), node_postprocessors=[reranker], memory=ChatMemoryBuffer.from_defaults()
    )
    check(engine.chat(QUERY).source_nodes, reranker, str(engine.chat(QUERY)))
    engine.reset()
    response = asyncio.run(engine.achat(QUERY))
    check(response.source_nodes, reranker, str(response))


@pytest.mark.parametrize("own_faiss", [False, True], ids=["simple store", "FAISS store"])
def test_vector_store_index_with_our_embedding(embedding, reranker, own_faiss):
    storage = None
    if own_faiss:
        storage = StorageContext.from_defaults(vector_store=FaissVectorStore(faiss_index=faiss.IndexFlatIP(32)))
    index = VectorStoreIndex(nodes(), embed_model=embedding, storage_context=storage)
    engine = index.as_query_engine(llm=MockLLM(), similarity_top_k=6, node_postprocessors=[reranker])
    for response in (engine.query(QUERY), asyncio.run(engine.aquery(QUERY))):
        check(response.source_nodes, reranker, str(response))
    chat = index.as_chat_engine(
        "context",
        llm=MockLLM(),
        similarity_top_k=6,
        node_postprocessors=[reranker],
        memory=ChatMemoryBuffer.from_defaults(),
    )
    check(chat.chat(QUERY).source_nodes, reranker, "")


# The same answers as plain Python gives


def two_stages_agree(index: PassageIndex, questions: list[str], reranker: BioRerankPostprocessor, core: BioReranker):
    search = TwoStageSearch(index, core)
    engine = RetrieverQueryEngine.from_args(
        BioRetriever(index, similarity_top_k=20), llm=MockLLM(), node_postprocessors=[reranker]
    )
    for question in questions:
        expected = search.search(question, candidates=20, top_k=5)
        found = engine.retrieve(question)
        assert [one.node_id for one in found] == [line.passage.id for line in expected]
        assert [one.score for one in found] == [line.score for line in expected]
        assert [one.metadata["retrieval_score"] for one in found] == [line.retrieval_score for line in expected]


def test_the_demo_collection_with_the_embedded_models():
    folder = Path(models.__file__).parents[1] / "demo"
    index = PassageIndex.build(itertools.islice(read_passages(folder), 60))
    questions = [query.text for query in read_queries(folder / "queries.jsonl")][:2]
    with BioReranker() as core:
        reranker = BioRerankPostprocessor(top_n=5)
        two_stages_agree(index, questions, reranker, core)
        reranker.close()


@pytest.mark.data
def test_bioasq_with_the_embedded_models(data_dir: Path):
    questions = [query.text for query in itertools.islice(read_queries(data_dir / "bioasq" / "dev.jsonl.gz"), 2)]
    passages = itertools.islice(read_passages(data_dir / "bioasq" / "corpus.jsonl.gz"), 60)
    with BioReranker() as core:
        reranker = BioRerankPostprocessor(top_n=5)
        two_stages_agree(PassageIndex.build(passages), questions, reranker, core)
        reranker.close()


# Without LlamaIndex


def test_a_missing_llama_index_names_the_pip_line():
    code = (
        "import sys; sys.modules['llama_index'] = sys.modules['llama_index.core'] = None\n"
        "from biorerank_plugins.errors import MissingExtraError\n"
        "try:\n    import biorerank_plugins.llama_index\n"
        "except MissingExtraError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert install_line("llama-index") in done.stdout
