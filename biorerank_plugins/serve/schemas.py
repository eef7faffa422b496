"""The requests that a server takes, in the shapes of other servers, so that their clients work here unchanged."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

from biorerank_plugins.first_stage.filters import compile_filter

__all__ = ["AnyRerank", "DocumentsRerank", "SearchRequest", "TextsRerank"]


def _says_something(text: str) -> str:
    if not text.strip():
        raise ValueError("the query is empty; give the question to rank for")
    return text


def _is_filter(filters: dict[str, Any] | None) -> dict[str, Any] | None:
    try:
        compile_filter(filters)
    except TypeError as error:  # pydantic reports ValueError only
        raise ValueError(str(error)) from error
    return filters


Query = Annotated[str, AfterValidator(_says_something), Field(description="The question.")]


class TextsRerank(BaseModel):
    """As Text Embeddings Inference takes it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": "What is p53?", "texts": ["p53 is a …"]}]})

    query: Query
    texts: list[str] = Field(min_length=1)
    raw_scores: bool = Field(False, description="Logits instead of scores.")
    return_text: bool = False
    truncate: bool | None = Field(None, description="Has no effect: long texts are read to their end, in windows.")
    truncation_direction: Literal["left", "right", "Left", "Right"] | None = Field(None, description="No effect.")


class DocumentsRerank(BaseModel):
    """As Cohere, Jina and vLLM take it; fields of theirs that are not named here have no effect."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": "What is p53?", "documents": ["p53 is a …"]}]})

    query: Query
    documents: list[str | dict[str, Any]] = Field(min_length=1, description='Texts, or objects: {"text": "…"}.')
    model: str | None = Field(None, description="A name that the server goes by; without one, its model.")
    top_n: int | None = Field(None, ge=0, description="So many results; 0 and null for all.")
    return_documents: bool | None = None
    rank_fields: list[str] | None = Field(None, description="Fields of objects that are read, instead of text.")
    raw_scores: bool = Field(False, description="Logits instead of scores.")
    use_activation: bool | None = Field(None, description="False, as vLLM has it: logits instead of scores.")

    def texts(self) -> list[str]:
        """Return the text of each document.

        :raises ValueError: if one has none; it says which.
        """
        return [_text(place, one, self.rank_fields or ["text"]) for place, one in enumerate(self.documents)]


def _text(place: int, document: str | dict[str, Any], fields: list[str]) -> str:
    if isinstance(document, str):
        return document
    missing = [name for name in fields if not isinstance(document.get(name), str)]
    if missing:
        raise ValueError(f"documents.{place}: expected a string, or an object with the text {', '.join(missing)!r}.")
    return "\n".join(str(document[name]) for name in fields)


def _shape(body: Any) -> str:
    return "texts-shape" if isinstance(body, dict) and "texts" in body else "documents-shape"


AnyRerank = Annotated[
    Annotated[TextsRerank, Tag("texts-shape")] | Annotated[DocumentsRerank, Tag("documents-shape")],
    Discriminator(_shape),
]
"""Clients of both kinds of server know the path ``/rerank``: ``texts`` or ``documents`` tells them apart."""


class SearchRequest(BaseModel):
    """A question to both stages; the fields are the parameters of ``TwoStageSearch.search``."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"query": "What is p53?", "top_k": 3}]})

    query: Query
    top_k: int | None = Field(10, ge=1, description="Passages to return; null for all candidates.")
    candidates: int = Field(100, ge=1, description="Passages that are reranked.")
    filters: Annotated[dict[str, Any] | None, AfterValidator(_is_filter)] = Field(
        None, description='Which passages may be found: {"year": {">=": 2015}}.'
    )
    first_stage: Literal["hybrid", "dense", "lexical"] | None = None
    evidence: int = Field(0, ge=0, le=20, description="Best sentences of each passage.")
    min_score: float | None = Field(None, allow_inf_nan=False)
    min_probability: float | None = Field(None, ge=0, le=1)
    fusion: Annotated[float, Field(ge=0, le=1e6)] | Literal["stored", "order"] | None = "stored"
    deduplicate: list[Literal["id", "pmid", "doi", "text"]] | Literal["id", "pmid", "doi", "text"] | None = None
    retracted: Literal["keep", "flag", "drop"] = "keep"
