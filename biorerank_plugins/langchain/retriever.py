"""LangChain's retriever over :class:`~biorerank_plugins.PassageIndex`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Literal, Self

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field, PrivateAttr, field_validator

from biorerank_plugins._common.checks import whole_number
from biorerank_plugins.adapters_common import FIRST_STAGE_KEY, OnBad, index_passages, title_of
from biorerank_plugins.first_stage.arguments import check_first_stage
from biorerank_plugins.first_stage.filters import compile_filter
from biorerank_plugins.first_stage.protocol import Encoder, SearchableIndex
from biorerank_plugins.langchain.documents import RETRIEVAL_SCORE, FoundDocument, without_scores
from biorerank_plugins.passages import Candidate, Passage
from biorerank_plugins.scale.opening import open_index

__all__ = ["BioRetriever"]


class BioRetriever(BaseRetriever):
    """Find documents in a passage index: by meaning, by words, or by both.

    What is returned are documents with the id and the text of the passage; ``metadata`` is the passage's, with
    ``"title"`` where there is one, and ``"retrieval_score"`` (higher is better). The scores are never part of a text.

    ``k``, ``filters`` and ``first_stage`` can be given for one call too: ``retriever.invoke(query, k=50)``; filters of
    a call replace those of the retriever, and ``{}`` finds all.

    :param index: a passage index, or the folder of a saved one. For documents see :meth:`from_documents`.
    :param k: number of documents.
    :param filters: which documents may be found, as :meth:`~biorerank_plugins.PassageIndex.search` takes them; they
        apply before the best ``k`` are taken.
    :param first_stage: ``"hybrid"``, ``"dense"`` or ``"lexical"``; ``None``: ``"hybrid"`` where the index has a lexical
        part, else ``"dense"``.
    :raises ValueError: if a setting is impossible or unknown.
    :raises PassageIndexError: if there is no index in the folder, or it has no lexical part and one is asked for.

    Example::

        from biorerank_plugins.langchain import BioRerankCompressor, BioRetriever

        retriever = BioRetriever(index="my-index", k=50, filters={"year": {">=": 2015}})
        documents = retriever.invoke("Is TP53 a tumour suppressor?")
        best = BioRerankCompressor(top_n=5).compress_documents(documents, "Is TP53 a tumour suppressor?")
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    index: Any = Field(frozen=True)
    k: int = 10
    filters: dict[str, Any] | None = None
    first_stage: Literal["hybrid", "dense", "lexical"] | None = None

    _index: SearchableIndex = PrivateAttr()
    _left_out: tuple[str, ...] = PrivateAttr(default=())

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        *,
        encoder: Encoder | None = None,
        factory: str = "Flat",
        lexical: bool = True,
        show_progress: bool = False,
        on_bad: OnBad = "error",
        **settings: Any,
    ) -> Self:
        """Index documents in memory.

        A document without an id gets its position as one; ``metadata["title"]`` is its title. What an earlier search
        or reranking wrote into the metadata is left out.

        :param documents: the documents; they are not changed.
        :param encoder: what embeds documents and queries; ``None`` for the embedded bi-encoder.
        :param factory: kind of index, as :meth:`~biorerank_plugins.PassageIndex.build` takes it.
        :param lexical: whether to index the words too.
        :param show_progress: whether to show a progress bar.
        :param on_bad: ``"skip"`` leaves out documents without a text; :attr:`left_out` and the log name them.
        :param settings: of the retriever: ``k``, ``filters``, ``first_stage``, ``tags``, ….
        :raises ValueError: if an id comes twice, or a document has no text.
        :raises PassageIndexError: if there are no documents.
        """
        passages = (
            Passage(one.id or str(place), one.page_content or "", title_of(one.metadata), without_scores(one.metadata))
            for place, one in enumerate(documents)
        )
        index, left_out = index_passages(
            passages, on_bad, encoder=encoder, factory=factory, lexical=lexical, show_progress=show_progress
        )
        made = cls(index=index, **settings)
        made._left_out = left_out
        return made

    @property
    def left_out(self) -> tuple[str, ...]:
        """Ids of the documents that :meth:`from_documents` left out."""
        return self._left_out

    @field_validator("k", mode="before")
    @classmethod
    def _check_k(cls, value: Any) -> Any:
        return whole_number("k", value)  # before pydantic, which would take "5" for 5 and True for 1

    @field_validator("filters", mode="before")
    @classmethod
    def _check_filters(cls, value: Any) -> Any:
        compile_filter(value)
        return value

    def model_post_init(self, context: Any, /) -> None:
        """Open the index."""
        super().model_post_init(context)
        if not isinstance(self.index, (str, os.PathLike, SearchableIndex)):
            raise TypeError(f"index must be a PassageIndex or a folder, got {type(self.index).__name__}.")
        self._index = self.index if isinstance(self.index, SearchableIndex) else open_index(self.index)
        check_first_stage(self.first_stage, has_lexical=self._index.lexical)

    async def _aget_relevant_documents(self, query: str, **options: Any) -> list[Document]:
        return await asyncio.to_thread(partial(self._get_relevant_documents, query, **options))

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: Any,
        k: int | None = None,
        filters: Mapping[str, Any] | None = None,
        first_stage: Literal["hybrid", "dense", "lexical"] | None = None,
    ) -> list[Document]:
        if query is None:
            raise ValueError("The query is None; give the question to search for.")
        found = self._index.search(
            query,
            self.k if k is None else k,
            filters=self.filters if filters is None else filters,
            first_stage=self.first_stage if first_stage is None else first_stage,
        )
        return [_document(candidate) for candidate in found]

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy; one with other settings is made of them anew: they are checked, and they are what counts."""
        return type(self)(**{**dict(self), **update}) if update else super().model_copy(deep=deep)


def _document(candidate: Candidate) -> Document:
    passage = candidate.passage
    metadata = passage.to_dict()["metadata"]
    if passage.title is not None:
        metadata["title"] = passage.title
    metadata[RETRIEVAL_SCORE] = candidate.score
    if candidate.first_stage is not None:
        metadata[FIRST_STAGE_KEY] = candidate.first_stage
    return FoundDocument(id=passage.id, page_content=passage.text, metadata=metadata)
