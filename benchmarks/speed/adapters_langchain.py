"""LangChain: the compressor, and the retriever over the demo collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.documents import Document

from benchmarks.common import DEMO
from benchmarks.speed.adapters import TEMPLATE, TOP, Scores, Work
from biorerank_plugins import Candidate, PassageIndex
from biorerank_plugins.langchain import BioRerankCompressor, BioRetriever
from biorerank_plugins.readers import read_passages


def ranked(model: Any, question: str, candidates: Sequence[Candidate]) -> Scores:
    documents = documents_of(candidates)
    adapter = BioRerankCompressor(model=model, template=TEMPLATE, top_n=TOP)
    return lambda: [one.metadata["relevance_score"] for one in adapter.compress_documents(documents, question)]


def works(candidates: Sequence[Candidate]) -> Mapping[str, Work]:
    documents = documents_of(candidates)
    adapter = BioRerankCompressor(top_n=TOP, template=TEMPLATE)
    retriever = BioRetriever(index=PassageIndex.build(read_passages(DEMO / "corpus.jsonl")), k=100)

    async def compressor(question: str) -> object:
        return await adapter.acompress_documents(documents, question)

    return {"compressor": compressor, "retriever": retriever.ainvoke}


def documents_of(candidates: Sequence[Candidate]) -> list[Document]:
    return [
        Document(
            id=one.passage.id,
            page_content=one.passage.text,
            metadata={**one.passage.metadata, "title": one.passage.title, "retrieval_score": one.score},
        )
        for one in candidates
    ]
