"""BioEmbedding: the bi-encoder as a LlamaIndex embedding model."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import ConfigDict, Field, PrivateAttr, field_validator

from biorerank_plugins import models
from biorerank_plugins._common.forks import Lock, Threads
from biorerank_plugins.first_stage.encoder import BiEncoder
from biorerank_plugins.llama_index.nodes import SavedBySettings
from biorerank_plugins.models.folders import resolve_folder
from biorerank_plugins.passages import Passage

__all__ = ["BioEmbedding"]

Vector = list[float]
T = TypeVar("T")

_OPTIONS = (
    *("query_model", "device", "dtype", "pooling", "normalize", "query_prefix", "passage_prefix"),
    *("max_length", "query_max_length", "revision", "token", "cache_folder", "local_files_only"),
)


class BioEmbedding(BaseEmbedding, SavedBySettings):
    """Embeds questions and passages for a ``VectorStoreIndex``, each in the way that the bi-encoder was trained for.

    The model is loaded at the first use, or by :meth:`warm_up`. Settings survive ``to_dict``, ``from_dict`` and
    ``pickle``, a ``token`` excepted. LlamaIndex embeds a node's EMBED content, metadata included: put the keys that
    the model should not read into ``excluded_embed_metadata_keys``.

    Vectors of the embedded model have length 1. For a model without normalisation take a store that compares by inner
    product, such as ``FaissVectorStore(faiss.IndexFlatIP(dimension))``.

    :param model_name: as ``model`` of :class:`~biorerank_plugins.BiEncoder`: embedded model, folder or name on the hub.
    :param embed_batch_size: texts embedded at a time.
    :param query_model: as in :class:`~biorerank_plugins.BiEncoder`; so are ``device``, ``dtype``, ``pooling``,
        ``normalize``, ``query_prefix``, ``passage_prefix``, ``max_length``, ``query_max_length``, ``revision``,
        ``token``, ``cache_folder`` and ``local_files_only``.
    :raises ValueError: if a setting is impossible.
    :raises ModelError: if there is no such folder or embedded model.

    Example::

        from llama_index.core import VectorStoreIndex
        from biorerank_plugins.llama_index import BioEmbedding

        index = VectorStoreIndex.from_documents(documents, embed_model=BioEmbedding())
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    model_name: str = Field(default=models.DEFAULT_ENCODER, frozen=True)
    embed_batch_size: int = Field(default=64, gt=0, le=2048)
    query_model: str | None = Field(default=None, frozen=True)
    device: str | None = Field(default=None, frozen=True)
    dtype: str = Field(default="auto", frozen=True)
    pooling: str | None = Field(default=None, frozen=True)
    normalize: bool | None = Field(default=None, frozen=True)
    query_prefix: str | None = Field(default=None, frozen=True)
    passage_prefix: str | None = Field(default=None, frozen=True)
    max_length: int | None = Field(default=None, frozen=True)
    query_max_length: int | None = Field(default=None, frozen=True)
    revision: str | None = Field(default=None, frozen=True)
    token: str | bool | None = Field(default=None, frozen=True, exclude=True, repr=False)
    cache_folder: str | None = Field(default=None, frozen=True)
    local_files_only: bool | None = Field(default=None, frozen=True)

    _encoder: BiEncoder | None = PrivateAttr(default=None)
    _loading: Any = PrivateAttr(default_factory=Lock)
    # asyncio's own pool is shared with everything else, and an ingestion queues hundreds of batches.
    _threads: Threads = PrivateAttr(default_factory=lambda: Threads(2, "biorerank-embedding"))

    def __init__(self, model_name: str | os.PathLike[str] = models.DEFAULT_ENCODER, **settings: Any) -> None:
        super().__init__(**{"model_name": model_name, **settings})

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which it is saved."""
        return "BioEmbedding"

    @field_validator("model_name", "query_model", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if isinstance(value, (str, os.PathLike)):
            resolve_folder(value)  # a misspelt name is an error now, not at the first document
            return os.fspath(value)
        return value

    @field_validator("device", "dtype", "cache_folder", mode="before")
    @classmethod
    def _as_json(cls, value: Any) -> Any:
        return None if value is None else str(value).removeprefix("torch.")

    def warm_up(self) -> None:
        """Load the model now instead of at the first use.

        :raises ModelError: if it cannot be loaded.
        """
        self._loaded()

    def _loaded(self) -> BiEncoder:
        with self._loading:
            if self._encoder is None:
                self._encoder = BiEncoder(self.model_name, **{name: getattr(self, name) for name in _OPTIONS})
            return self._encoder

    async def _in_thread(self, call: Callable[[Any], T], given: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads.executor, partial(call, given))

    def _get_query_embedding(self, query: str) -> Vector:
        [vector] = self._loaded().encode_queries([query]).tolist()
        return cast(Vector, vector)

    async def _aget_query_embedding(self, query: str) -> Vector:
        return await self._in_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> Vector:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> Vector:
        return await self._in_thread(self._get_text_embedding, text)

    def _get_text_embeddings(self, texts: list[str]) -> list[Vector]:
        passages = [Passage(str(number), text) for number, text in enumerate(texts)]
        return cast("list[Vector]", self._loaded().encode_passages(passages).tolist())

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Vector]:
        return await self._in_thread(self._get_text_embeddings, texts)
