"""Haystack: the ranker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from haystack import Document

from benchmarks.speed.adapters import TEMPLATE, TOP, Scores, Work
from biorerank_plugins import Candidate
from biorerank_plugins.haystack import BioRanker


def ranked(model: Any, question: str, candidates: Sequence[Candidate]) -> Scores:
    documents = documents_of(candidates)
    adapter = BioRanker(model=model, template=TEMPLATE, top_k=TOP)
    adapter.warm_up()
    return lambda: [one.score or 0.0 for one in adapter.run(query=question, documents=documents)["documents"]]


def works(candidates: Sequence[Candidate]) -> Mapping[str, Work]:
    documents = documents_of(candidates)
    adapter = BioRanker(template=TEMPLATE, top_k=TOP)

    async def ranker(question: str) -> object:
        return await adapter.run_async(query=question, documents=documents)

    return {"ranker": ranker}


def documents_of(candidates: Sequence[Candidate]) -> list[Document]:
    return [
        Document(
            id=one.passage.id,
            content=one.passage.text,
            meta={**one.passage.metadata, "title": one.passage.title},
            score=one.score,
        )
        for one in candidates
    ]
