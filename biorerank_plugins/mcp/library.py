"""What the tools do: one search in both stages, its answer, and the passages behind it, as JSON types."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from biorerank_plugins.answers.question_language import question_notes
from biorerank_plugins.answers.quoted import Answer, Citation, compose_answer, evidence_document
from biorerank_plugins.articles.metadata import DEFAULT_KEYS
from biorerank_plugins.mcp.requests import GetPassage, Rerank, SearchEvidence
from biorerank_plugins.passages import RankedPassage
from biorerank_plugins.two_stage import TwoStageSearch

_SHOWN = 4_000  # characters of a passage in an answer: get_passage has the rest, and a context is dear


class NotFoundError(LookupError):
    """The index has no passage of that id."""


class Library:
    """An index and a reranker, opened when they are first needed.

    :param open_search: gives both stages; called once, unless it fails: then each call tries again.
    :param timeout: seconds that a call may take once everything is loaded.

    Example::

        library = Library(lambda: TwoStageSearch(PassageIndex.load("my-index"), BioReranker()))
        asyncio.run(library.search_evidence(SearchEvidence(question="Which drug reverses dabigatran?")))
    """

    def __init__(self, open_search: Callable[[], TwoStageSearch], *, timeout: float = 120.0) -> None:
        self._open_search = open_search
        self._timeout = timeout
        self._lock = threading.Lock()
        self._search: TwoStageSearch | None = None

    def open(self) -> TwoStageSearch:
        """Load everything, and return it; whoever comes meanwhile waits.

        :raises BioRerankError: if the model or the index cannot be loaded.
        """
        with self._lock:
            if self._search is None:
                self._search = self._open_search()
            return self._search

    async def search_evidence(self, asked: SearchEvidence) -> dict[str, Any]:
        """Return the best passages for a question, with the answer that they give in their own words.

        :raises TimeoutError: if it takes too long.
        """
        search = await asyncio.to_thread(self.open)
        ranking = await search.asearch(
            asked.question,
            candidates=max(asked.candidates, asked.k),
            filters=asked.filters,
            top_k=asked.k,
            evidence=asked.sentences,
            retracted="flag",
            timeout=self._timeout,
        )
        answer = compose_answer(ranking, max_sentences=asked.sentences)
        return {
            **_answer(answer),
            "passages": [_found(ranked) for ranked in ranking],
            **({"notes": notes} if (notes := question_notes(asked.question)) else {}),
            **({"missing_shards": list(ranking.missing_shards)} if ranking.missing_shards else {}),
        }

    async def rerank(self, asked: Rerank) -> dict[str, Any]:
        """Return texts in the order in which they answer a question.

        :raises TimeoutError: if it takes too long.
        """
        search = await asyncio.to_thread(self.open)
        ranking = await search.reranker.arank(asked.question, asked.given(), top_k=asked.k, timeout=self._timeout)
        told = ranking.answerability
        return {
            "question": asked.question,
            "state": None if told is None else told.state,
            "why": "" if told is None else told.why,
            "passages": [
                {
                    "rank": ranked.rank,
                    "index": ranked.input_index,
                    "id": ranked.passage.id,
                    "title": ranked.passage.title,
                    "score": ranked.score,
                    "probability": ranked.probability,
                }
                for ranked in ranking
            ],
        }

    async def get_passage(self, asked: GetPassage) -> dict[str, Any]:
        """Return a whole passage with its reference.

        :raises NotFoundError: if there is none of that id.
        """
        search = await asyncio.to_thread(self.open)
        passage = await asyncio.to_thread(search.index.get, asked.id)
        if passage is None:
            raise NotFoundError(f"The index has no passage {asked.id[:200]!r}: take an id that search_evidence gives.")
        return {**passage.to_dict(), "citation": Citation.of(1, passage, DEFAULT_KEYS).text}

    def close(self) -> None:
        """Give everything back; closing twice is fine."""
        with self._lock:
            search, self._search = self._search, None
        if search is not None:
            search.reranker.close()
            search.index.close()


def _answer(answer: Answer) -> dict[str, Any]:
    """Return an answer whose citations name passages, which follow beside it."""
    whole = answer.to_dict()
    return {
        "question": answer.query,
        **{name: whole[name] for name in ("state", "why", "answer", "quotes")},
        "citations": [{**one.to_dict(), "passage": one.passage.id} for one in answer.citations],
        "nearest": [{**one.to_dict(), "passage": one.passage.id} for one in answer.nearest],
    }


def _found(ranked: RankedPassage) -> dict[str, Any]:
    whole, text = ranked.to_dict(), ranked.passage.text
    kept = ("rank", "id", "title", "score", "probability", "retrieval_score", "retracted", "metadata")
    return {
        **{name: whole[name] for name in kept},
        "text": text[:_SHOWN],
        "text_is_cut": len(text) > _SHOWN,
        "sentences": [evidence_document(one) for one in ranked.evidence],
    }
