"""BioRetriever: :class:`~biorerank_plugins.PassageIndex` as a Haystack retriever."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from haystack import Document, component
from haystack.document_stores.types import FilterPolicy
from haystack.document_stores.types.filter_policy import apply_filter_policy

from biorerank_plugins._common.checks import whole_number
from biorerank_plugins.adapters_common import OnBad, check_on_bad, index_passages
from biorerank_plugins.first_stage import BiEncoder, SearchableIndex
from biorerank_plugins.first_stage.arguments import check_first_stage
from biorerank_plugins.haystack.components import LazyComponent, checked_query
from biorerank_plugins.haystack.document_filters import translated
from biorerank_plugins.haystack.documents import as_passage, check_documents, found_document
from biorerank_plugins.scale.opening import open_index

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.arguments import FirstStage
    from biorerank_plugins.first_stage.protocol import Encoder

__all__ = ["BioRetriever"]


@component
class BioRetriever(LazyComponent[SearchableIndex]):
    """Finds documents for a question in a FAISS and BM25 index: query text in, documents out, best first.

    Every score is higher for a better document. Haystack's filters apply before ``top_k``: a run returns
    ``min(top_k, documents that pass the filter)`` documents (fewer only for ``first_stage="lexical"``, which needs a
    common word). What filters can say: :mod:`biorerank_plugins.haystack.document_filters`.

    A document holds in ``meta`` what was indexed, its title, and under ``biorerank_retrieval_score`` and
    ``biorerank_first_stage`` the score and what it is, which :class:`BioRanker` uses for its fusion.

    :param index: a folder that :meth:`~biorerank_plugins.PassageIndex.save` or ``biorerank index`` wrote, or an open
        :class:`~biorerank_plugins.PassageIndex`, which stays the caller's to close.
    :param documents: documents to index in memory at the first use, instead of ``index``. Their ids must differ, and
        each must have content; ``meta["title"]`` is read as the title.
    :param encoder: the bi-encoder: a name or folder, or an object. ``None``: the one the index was built with, or the
        embedded one.
    :param first_stage: ``"hybrid"`` (bi-encoder and BM25), ``"dense"`` or ``"lexical"``; ``None``: hybrid if the index
        has both.
    :param filters: a filter of Haystack.
    :param top_k: return at most so many documents.
    :param filter_policy: whether a run's filters replace those set here, or are merged with them.
    :param on_bad: ``"skip"`` leaves out ``documents`` without content, as those of images; :attr:`left_out` and the
        log name them once they are indexed.
    :raises ValueError: if an argument is impossible.

    Example::

        from haystack import Document
        from haystack_integrations.components.retrievers.biorerank import BioRetriever

        documents = [
            Document(content="TP53 suppresses tumours.", meta={"year": 2020}),
            Document(content="Aspirin inhibits COX.", meta={"year": 2012}),
        ]
        retriever = BioRetriever(documents=documents, top_k=1)
        recent = {"field": "meta.year", "operator": ">=", "value": 2015}
        print(retriever.run("What does TP53 do?", filters=recent)["documents"])
    """

    def __init__(
        self,
        index: SearchableIndex | str | os.PathLike[str] | None = None,
        *,
        documents: list[Document] | None = None,
        encoder: Encoder | str | os.PathLike[str] | None = None,
        first_stage: FirstStage | None = None,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        filter_policy: FilterPolicy | str = FilterPolicy.REPLACE,
        on_bad: OnBad = "error",
    ) -> None:
        LazyComponent.__init__(self)
        if (index is None) == (documents is None):
            raise ValueError("Give either index (a folder or a PassageIndex) or documents.")
        check_first_stage(first_stage, has_lexical=True)
        translated(filters)
        self.index = index
        self.documents = None if documents is None else check_documents(documents)
        self.encoder = encoder
        self.first_stage = first_stage
        self.filters = filters
        self.top_k = whole_number("top_k", top_k)
        self.filter_policy = FilterPolicy.from_str(str(filter_policy))
        self.on_bad = check_on_bad(on_bad)
        self.left_out: tuple[str, ...] = ()
        """Ids of the documents that were left out."""

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Return the best documents for a question.

        :param query: the question.
        :param filters: which documents may be found; a filter of Haystack.
        :param top_k: return at most so many, instead of what was set.
        :returns: ``{"documents": [...]}``.
        :raises ValueError: if the query is blank, or an option is impossible.
        :raises FilterError: if the filter is malformed.
        """
        asked = checked_query(query)
        limit = whole_number("top_k", self.top_k if top_k is None else top_k)
        condition = translated(apply_filter_policy(self.filter_policy, self.filters, filters))
        found = self._loaded().search(asked, limit, condition, self.first_stage)
        return {"documents": [found_document(candidate) for candidate in found]}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Return the best documents, as :meth:`run` does, without blocking the event loop."""
        return await asyncio.to_thread(self.run, query, filters, top_k)

    def _load(self) -> SearchableIndex:
        if isinstance(self.index, SearchableIndex):
            return self.index
        encoder = self.encoder
        if isinstance(encoder, (str, os.PathLike)):
            encoder = BiEncoder(encoder)
        if self.index is not None:
            return open_index(self.index, encoder=encoder)
        index, self.left_out = index_passages(map(as_passage, self.documents or []), self.on_bad, encoder=encoder)
        return index

    def _release(self, resource: SearchableIndex) -> None:
        if resource is not self.index:
            resource.close()

    def _saved(self, name: str, value: Any) -> Any:
        if name == "index" and isinstance(value, SearchableIndex):
            value = value.folder
        if (name == "documents" and value is not None) or (name == "index" and value is None):
            raise ValueError(
                "An index that lives in memory cannot be saved with a pipeline. Save it to a folder with "
                "PassageIndex.save(folder), and pass the folder as index=…"
            )
        if name == "encoder" and not isinstance(value, (str, os.PathLike, type(None))):
            raise ValueError("encoder is an object, which cannot be saved. Pass its name or folder, or leave it out.")
        return LazyComponent._saved(self, name, value)
