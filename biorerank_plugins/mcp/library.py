"""The tools: what they take, described for the model that fills it in, and what they do, as JSON types."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, FailFast, Field, model_validator

from biorerank_plugins.answers.question_language import question_notes
from biorerank_plugins.answers.quoted import Answer, Citation, compose_answer, evidence_document
from biorerank_plugins.articles.metadata import DEFAULT_KEYS
from biorerank_plugins.first_stage.filters import requested_filter
from biorerank_plugins.passages import Passage, RankedPassage
from biorerank_plugins.two_stage import TwoStageSearch

_SHOWN = 4_000  # characters of a passage in an answer: get_passage has the rest, and a context is dear
MOST_CHARACTERS = 1_000_000
"""Of all texts of a rerank call together; some minutes of work for a laptop."""


def _says_something(text: str) -> str:
    if not text.strip():
        raise ValueError("it is empty; give a question in plain words")
    return text


Question = Annotated[
    str,
    Field(max_length=4_000, description="A biomedical question in plain English, as one sentence."),
    AfterValidator(_says_something),
]


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SearchEvidence(_Arguments):
    """Arguments of ``search_evidence``."""

    question: Question
    k: int = Field(5, ge=1, le=50, description="Passages to return, the best first.")
    sentences: int = Field(3, ge=1, le=10, description="Best sentences of each passage, and of the answer, at most.")
    candidates: int = Field(100, ge=1, le=500, description="Passages that the first stage hands to the reranker.")
    filters: Annotated[dict[str, Any], AfterValidator(requested_filter)] = Field(
        default_factory=dict,
        description="Which passages may be found, by their metadata: "
        '{"year": {">=": 2015}, "journal": {"in": ["Lancet", "BMJ"]}}. All conditions must hold.',
    )


class GivenPassage(_Arguments):
    """A passage with a title or a name of its own."""

    text: str = Field(max_length=100_000)
    title: str | None = Field(None, max_length=2_000)
    id: str | None = Field(None, min_length=1, max_length=500, description="Comes back with the passage's score.")


def _with_text(given: Any) -> Any:
    if not isinstance(given, str | dict):
        raise ValueError('give a text, or an object: {"text": "…"}')
    return {"text": given} if isinstance(given, str) else given


AnyPassage = Annotated[GivenPassage, BeforeValidator(_with_text, json_schema_input_type=str | GivenPassage)]


class Rerank(_Arguments):
    """Arguments of ``rerank``."""

    question: Question
    passages: Annotated[list[AnyPassage], FailFast()] = Field(
        min_length=1, max_length=500, description='Texts, or objects: {"text": "…", "title": "…", "id": "…"}.'
    )
    k: int | None = Field(None, ge=1, description="Return the best k only.")

    @model_validator(mode="after")
    def _fits(self) -> Rerank:
        characters = sum(len(one.text) for one in self.passages)
        if characters > MOST_CHARACTERS:
            raise ValueError(f"the passages have {characters:,} characters together, at most {MOST_CHARACTERS:,} fit")
        return self

    def given(self) -> list[Passage]:
        """Return the passages; one without an id is named by its place, from 0."""
        return [Passage(one.id or str(place), one.text, one.title) for place, one in enumerate(self.passages)]


class GetPassage(_Arguments):
    """Arguments of ``get_passage``."""

    id: str = Field(min_length=1, max_length=2_000, description="As search_evidence names it.")


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
        """Load everything, and return it; whoever comes meanwhile waits."""
        with self._lock:
            if self._search is None:
                self._search = self._open_search()
            return self._search

    async def search_evidence(self, asked: SearchEvidence) -> dict[str, Any]:
        """Return the best passages for a question, with the answer that they give in their own words."""
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
        """Return texts in the order in which they answer a question."""
        search = await asyncio.to_thread(self.open)
        ranking = await search.reranker.arank(asked.question, asked.given(), top_k=asked.k, timeout=self._timeout)
        told = ranking.answerability
        kept = ("rank", "id", "title", "score", "probability")
        return {
            "question": asked.question,
            "state": None if told is None else told.state,
            "why": "" if told is None else told.why,
            "passages": [{"index": one.input_index, **_some(one.to_dict(), kept)} for one in ranking],
        }

    async def get_passage(self, asked: GetPassage) -> dict[str, Any]:
        """Return a whole passage with its reference; raise :class:`NotFoundError` if there is none of that id."""
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
        **_some(whole, ("state", "why", "answer", "quotes")),
        "citations": [{**one.to_dict(), "passage": one.passage.id} for one in answer.citations],
        "nearest": [{**one.to_dict(), "passage": one.passage.id} for one in answer.nearest],
    }


def _found(ranked: RankedPassage) -> dict[str, Any]:
    whole, text = ranked.to_dict(), ranked.passage.text
    kept = ("rank", "id", "title", "score", "probability", "retrieval_score", "retracted", "metadata")
    return {
        **_some(whole, kept),
        "text": text[:_SHOWN],
        "text_is_cut": len(text) > _SHOWN,
        "sentences": [evidence_document(one) for one in ranked.evidence],
    }


def _some(whole: dict[str, Any], kept: tuple[str, ...]) -> dict[str, Any]:
    return {name: whole[name] for name in kept}
