"""What the tools take: arguments with their limits, described for the model that fills them in."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, FailFast, Field, model_validator

from biorerank_plugins.first_stage.filters import requested_filter
from biorerank_plugins.passages import Passage

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
