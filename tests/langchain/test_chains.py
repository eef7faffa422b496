"""Whole chains of LangChain over the demo collection, and over BioASQ where it is present."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Iterable

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever, EnsembleRetriever, MultiQueryRetriever
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.load import dumps, loads
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from support import DEMO
from support.langchain import QUERY, documents, numbered, ticks_during
from support.scorers import by_number

from biorerank_plugins import BiEncoder, BioReranker, Passage, TwoStageSearch, models
from biorerank_plugins.langchain import BioRerankCompressor, BioRetriever
from biorerank_plugins.readers import read_passages, read_queries

embedded = pytest.mark.skipif(
    not {models.DEFAULT_RERANKER, models.DEFAULT_ENCODER} <= set(models.names()),
    reason="the embedded models are not here",
)


def _as_documents(passages: Iterable[Passage]) -> list[Document]:
    return [
        Document(
            id=p.id, page_content=p.text, metadata=p.to_dict()["metadata"] | ({"title": p.title} if p.title else {})
        )
        for p in passages
    ]


@pytest.fixture(scope="module")
def demo_passages() -> list[Passage]:
    return list(read_passages(DEMO / "corpus.jsonl"))


@pytest.fixture(scope="module")
def compression(demo_passages, tiny_encoder_dir, tiny_cross_encoder_dir) -> ContextualCompressionRetriever:
    """Two stages with the tiny models over the demo collection."""
    retriever = BioRetriever.from_documents(
        _as_documents(demo_passages), encoder=BiEncoder(tiny_encoder_dir, device="cpu"), k=20
    )
    compressor = BioRerankCompressor(model=tiny_cross_encoder_dir, device="cpu", dtype="float32", top_n=5)
    return ContextualCompressionRetriever(base_compressor=compressor, base_retriever=retriever)


def test_compression_gives_what_both_parts_give(compression):
    found = compression.invoke(QUERY)
    by_hand = compression.base_compressor.compress_documents(compression.base_retriever.invoke(QUERY), QUERY)
    assert found == by_hand and len(found) == 5
    assert asyncio.run(compression.ainvoke(QUERY)) == found
    assert compression.batch([QUERY, "insulin"])[0] == found
    scores = [document.metadata["relevance_score"] for document in found]
    assert scores == sorted(scores, reverse=True)
    assert all(isinstance(document.metadata["retrieval_score"], float) for document in found)


def test_k_of_a_call_reaches_the_retriever(compression):
    assert len(compression.invoke(QUERY, k=2)) == 2
    assert len(asyncio.run(compression.ainvoke(QUERY, k=3))) == 3


def test_a_chain_with_a_chat_model(compression):
    prompts: list[str] = []

    def look(prompt):
        prompts.append(prompt.to_string())
        return prompt

    def joined(found: list[Document]) -> str:
        return "\n\n".join(document.page_content for document in found)

    chain = (
        {"context": compression | joined, "question": RunnablePassthrough()}
        | ChatPromptTemplate.from_template("{context}\n\nQuestion: {question}")
        | RunnableLambda(look)
        | FakeListChatModel(responses=["It is."])
        | StrOutputParser()
    )
    assert chain.invoke(QUERY) == "It is."
    assert asyncio.run(chain.ainvoke(QUERY)) == "It is."
    assert list(chain.stream(QUERY)) == ["I", "t", " ", "i", "s", "."]
    expected = joined(compression.invoke(QUERY))
    assert set(prompts) == {f"Human: {expected}\n\nQuestion: {QUERY}"}  # and no score among it


def test_handlers_hear_of_both_retrievers(compression):
    heard: list[str] = []

    class Handler(BaseCallbackHandler):
        def on_retriever_start(self, serialized, query, **kwargs):
            heard.append(f"start {kwargs['name']}")

        def on_retriever_end(self, found, **_):
            heard.append(f"end {len(found)}")

    compression.invoke(QUERY, {"callbacks": [Handler()]})
    outer, inner = "ContextualCompressionRetriever", "BioRetriever"
    assert heard == [f"start {outer}", f"start {inner}", "end 20", "end 5"]


def test_a_compressor_in_a_chain_of_functions_does_not_block_the_loop():
    compressor = BioRerankCompressor(model=by_number(seconds=0.1), top_n=1)
    base = RunnableLambda(lambda _: numbered(1, 3, 2))
    retriever = ContextualCompressionRetriever(base_compressor=compressor, base_retriever=base)
    found, woke_up = asyncio.run(ticks_during(retriever.ainvoke("q")))
    assert [document.id for document in found] == ["n1"]
    assert woke_up >= 10


def test_nothing_found_is_nothing_returned():
    base = RunnableLambda(lambda _: [])
    retriever = ContextualCompressionRetriever(base_compressor=BioRerankCompressor(), base_retriever=base)
    assert retriever.invoke(QUERY) == []


def test_an_ensemble_of_retrievers(tiny_encoder_dir):
    encoder = BiEncoder(tiny_encoder_dir, device="cpu")
    dense = BioRetriever.from_documents(documents(), encoder=encoder, k=4, first_stage="dense")
    lexical = BioRetriever(index=dense.index, k=4, first_stage="lexical")
    found = EnsembleRetriever(retrievers=[dense, lexical], weights=[0.5, 0.5]).invoke(QUERY)
    ids = {document.id for retriever in (dense, lexical) for document in retriever.invoke(QUERY)}
    assert {document.id for document in found} == ids and len(found) == len(ids)
    # Documents of two first stages: their scores are of different scales, and the order is the model's alone.
    ranked = BioRerankCompressor(model=models.path(models.DEFAULT_RERANKER), top_n=None).compress_documents(
        found, QUERY
    )
    scores = [document.metadata["relevance_score"] for document in ranked]
    assert scores == sorted(scores, reverse=True)


def test_several_wordings_of_a_question(tiny_encoder_dir):
    """``MultiQueryRetriever`` leaves out what it has already: a document is the same whatever it was found with."""
    retriever = BioRetriever.from_documents(documents(), encoder=BiEncoder(tiny_encoder_dir, device="cpu"), k=4)
    wordings = FakeListChatModel(responses=["what does p53 suppress\nis tp53 a suppressor gene"])
    several = MultiQueryRetriever.from_llm(retriever=retriever, llm=wordings)
    found = several.invoke(QUERY)
    by_one = [document.id for document in retriever.invoke("what does p53 suppress")]
    by_both = {*by_one, *(document.id for document in retriever.invoke("is tp53 a suppressor gene"))}
    assert [document.id for document in found][: len(by_one)] == by_one
    assert len(found) == len(by_both) and {document.id for document in found} == by_both


@pytest.mark.filterwarnings("ignore:The function `loads` is in beta")
def test_a_found_document_is_any_document_to_langchain(tiny_encoder_dir):
    retriever = BioRetriever.from_documents(documents(), encoder=BiEncoder(tiny_encoder_dir, device="cpu"), k=1)
    (found,) = retriever.invoke(QUERY)
    plain = Document(id=found.id, page_content=found.page_content, metadata={**found.metadata, "retrieval_score": 0.0})
    assert found == plain and plain == found
    assert found != Document(id="other", page_content=found.page_content, metadata=found.metadata)
    assert loads(dumps(found), allowed_objects=[Document]) == found and json.loads(dumps(found))["id"][-1] == "Document"
    assert repr(found).startswith("Document(")
    assert pickle.loads(pickle.dumps(found)) == found


# With the embedded models


def _title(passage: Passage) -> tuple[str, str, str]:
    return passage.id, passage.title or "", passage.text


def _same_as_two_stages(passages: list[Passage], questions: list[str], k: int, top_n: int) -> None:
    retriever = BioRetriever.from_documents(_as_documents(passages), k=k)
    compressor = BioRerankCompressor(top_n=top_n, device="cpu", dtype="float32")
    compression = ContextualCompressionRetriever(base_compressor=compressor, base_retriever=retriever)
    assert [_title(passage) for passage in retriever.index.passages()] == [_title(passage) for passage in passages]
    search = TwoStageSearch(retriever.index, BioReranker(device="cpu", dtype="float32"))
    for question in questions:
        found = compression.invoke(question)
        expected = search.search(question, candidates=k, top_k=top_n)
        assert [document.id for document in found] == [line.passage.id for line in expected]
        for name in ("score", "retrieval_score"):
            key = "relevance_score" if name == "score" else name
            assert [document.metadata[key] for document in found] == [getattr(line, name) for line in expected]
        assert asyncio.run(compression.ainvoke(question)) == found


@embedded
def test_the_demo_collection(demo_passages, no_network):
    """Titles, templates and stored weights arrive: the order and the values are those of ``TwoStageSearch``."""
    questions = [query.text for query in read_queries(DEMO / "queries.jsonl")[:2]]
    _same_as_two_stages(demo_passages[:30], questions, k=10, top_n=5)


@embedded
@pytest.mark.data
def test_bioasq(data_dir):
    path = data_dir / "bioasq" / "dev.jsonl.gz"
    passages = list({passage.id: passage for passage in read_passages(path)}.values())[:30]
    questions = [query.text for query in read_queries(path)[:2]]
    _same_as_two_stages(passages, questions, k=10, top_n=5)
