"""The requests that a server takes, in the shapes of other servers, so that their clients work here unchanged.

Their bodies are read by us: bounded in memory, off the event loop, the first error only.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Discriminator,
    FailFast,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    field_validator,
)

from biorerank_plugins.first_stage.filters import requested_filter
from biorerank_plugins.serve.answers import RefusedError

_TEXT_KEYS = ("text", "content", "passage")
"""Where an object has its text, if the request does not say it."""


def _says_something(text: str) -> str:
    if not text.strip():
        raise ValueError("the query is empty; give the question to rank for")
    return text


Query = Annotated[str, AfterValidator(_says_something), Field(description="The question.")]


class TextsRerank(BaseModel):
    """As Text Embeddings Inference takes it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": "What is p53?", "texts": ["p53 is a …"]}]})

    query: Query
    texts: Annotated[list[str], FailFast()] = Field(min_length=1)
    raw_scores: bool = Field(False, description="Logits instead of scores.")
    return_text: bool = False
    truncate: bool | None = Field(None, description="Has no effect: long texts are read to their end, in windows.")
    truncation_direction: Literal["left", "right", "Left", "Right"] | None = Field(None, description="No effect.")


class DocumentsRerank(BaseModel):
    """As Cohere, Jina and vLLM take it; fields of theirs that are not named here have no effect."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": "What is p53?", "documents": ["p53 is a …"]}]})

    query: Query
    documents: Annotated[list[str | dict[str, Any]], FailFast()] = Field(
        min_length=1, description='Texts, or objects: {"text": "…"}, {"content": "…"}, {"passage": "…"}.'
    )
    model: str | None = Field(None, description="Any name; the answer says which model it was.")
    top_n: int | None = Field(
        None,
        ge=0,
        validation_alias=AliasChoices("top_n", "top_k"),
        description="So many results (also as top_k); 0 and null for all.",
    )
    return_documents: bool | None = None
    rank_fields: list[str] | None = Field(
        None, max_length=100, description="Fields of objects that are read, instead of text."
    )
    raw_scores: bool = Field(False, description="Logits instead of scores.")
    use_activation: bool | None = Field(None, description="False, as vLLM has it: logits instead of scores.")

    def texts(self) -> list[str]:
        """Return the text of each document; raise ``ValueError`` if one has none, which it names."""
        return [_text(place, one, self.rank_fields) for place, one in enumerate(self.documents)]


def _text(place: int, document: str | dict[str, Any], fields: list[str] | None) -> str:
    if isinstance(document, str):
        return document
    read = {name: _read(value) for name, value in document.items()}
    asked = fields or [next((key for key in _TEXT_KEYS if isinstance(read.get(key), str)), _TEXT_KEYS[0])]
    # A field that an object lacks says nothing of it; numbers are read as they are written.
    found = [read[name] for name in asked if isinstance(read.get(name), (str, int, float))]
    if not found:
        named = ", ".join(fields or _TEXT_KEYS)
        raise ValueError(f"documents.{place}: expected a string, or an object with the text in one of: {named}.")
    return "\n".join(map(str, found))


def _read(value: Any) -> Any:
    """Return the text of a list of parts, as models that see images take it; other values as they are."""
    if not isinstance(value, list):
        return value
    texts = [part["text"] for part in value if isinstance(part, dict) and isinstance(part.get("text"), str)]
    return "\n".join(texts) if texts else None


class ScoreRequest(BaseModel):
    """As vLLM takes it: one text with each of others, or two lists pair by pair."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text_1": "What is p53?", "text_2": ["p53 is a …"]}]})

    text_1: Annotated[list[str], FailFast()] = Field(description="The question, or one for each text.")
    text_2: Annotated[list[str], FailFast()] = Field(description="The texts.")
    model: str | None = Field(None, description="Any name; the answer says which model it was.")

    @field_validator("text_1", "text_2", mode="before")
    @classmethod
    def _listed(cls, given: Any) -> Any:
        return [given] if isinstance(given, str) else given

    def pairs(self) -> list[tuple[str, str]]:
        """Return the pairs; raise ``ValueError`` if the lists have different lengths, or a question is empty."""
        queries, texts = self.text_1, self.text_2
        if len(queries) == 1:
            queries = queries * len(texts)
        if not texts or len(queries) != len(texts):
            raise ValueError(f"text_1 has {len(queries)} texts and text_2 {len(texts)}: give one question, or as many.")
        for query in queries:
            _says_something(query)
        return list(zip(queries, texts, strict=True))


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
    filters: Annotated[dict[str, Any] | None, AfterValidator(requested_filter)] = Field(
        None, description='Which passages may be found: {"year": {">=": 2015}}.'
    )
    first_stage: Literal["hybrid", "dense", "lexical"] | None = None
    evidence: int = Field(0, ge=0, le=20, description="Best sentences of each passage.")
    min_score: float | None = Field(None, allow_inf_nan=False)
    min_probability: float | None = Field(None, ge=0, le=1)
    fusion: Annotated[float, Field(ge=0, le=1e6)] | Literal["stored", "order"] | None = "stored"
    deduplicate: list[Literal["id", "pmid", "doi", "text"]] | Literal["id", "pmid", "doi", "text"] | None = None
    retracted: Literal["keep", "flag", "drop"] = "keep"
    effort: Literal["full", "auto"] = Field("full", description="auto: read only what may come among the first top_k.")


MOST = 10
"""A body at the limit takes at most so many times its bytes while it is read."""
# Bytes that a value takes in Python beside its text, by the sign that begins it; a comma is a place in a list.
_WEIGHTS = {b"{": 250, b"[": 64, b'"': 25, b",": 10}


def check_weight(body: bytes, most: int) -> None:
    """Refuse a body that is small and would be large: millions of empty lists, say.

    :param most: bytes that it may take once it is read.

    >>> check_weight(b'{"documents": [' + b"[]," * 1000 + b"[]]}", most=1_000_000)
    """
    if sum(weight * body.count(sign) for sign, weight in _WEIGHTS.items()) > most:
        raise RefusedError(422, "validation", "The request holds too many values. Send fewer texts at once.")


def body_of(shape: Any, max_body_bytes: int) -> Callable[[Request], Awaitable[Any]]:
    """Return a dependency that reads the body of a request in some shape."""
    adapter: TypeAdapter[Any] = TypeAdapter(shape)

    def parse(body: bytes) -> Any:
        try:
            return adapter.validate_python(json.loads(body))
        except json.JSONDecodeError as error:
            raise _invalid(("body", error.pos), error.msg) from None
        except ValidationError as error:
            told = error.errors(include_url=False, include_context=False, include_input=False)
            raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in told]) from None
        except (ValueError, RecursionError) as error:  # no UTF-8, a number of thousands of digits, too deep
            raise _invalid(("body",), f"no JSON that can be read ({type(error).__name__})") from None

    async def read(request: Request) -> Any:
        # Some clients send no type. Another one than JSON is what a page elsewhere can send without being asked.
        if "json" not in request.headers.get("content-type", "application/json"):
            raise RefusedError(422, "validation", "Expected JSON with the header Content-Type: application/json.")
        body = await request.body()
        check_weight(body, MOST * max_body_bytes)
        return await asyncio.to_thread(parse, body)

    return read


def _invalid(place: tuple[str | int, ...], message: str) -> RequestValidationError:
    return RequestValidationError([{"loc": place, "msg": message}])
