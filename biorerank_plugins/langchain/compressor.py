"""LangChain's document compressor over :class:`~biorerank_plugins.BioReranker`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from numbers import Real
from typing import Any, Self

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict, Field, PrivateAttr, ValidationInfo, field_validator

from biorerank_plugins._common.checks import whole_number
from biorerank_plugins.adapters_common import (
    MARKS,
    RANK_SETTINGS,
    HostTexts,
    check_rank_option,
    copied_metadata,
    host_candidate,
    make_reranker,
    rank_keywords,
    ranking_marks,
)
from biorerank_plugins.langchain.documents import RELEVANCE_SCORE, RETRIEVAL_SCORE, check_documents, without_scores
from biorerank_plugins.passages import Candidate, Passage, RankedPassage, Ranking
from biorerank_plugins.reranking.options import Effort, Fusion, Retracted
from biorerank_plugins.reranking.reranker import BioReranker

__all__ = ["BioRerankCompressor"]

_CHECKS: dict[str, Callable[[Any], Any]] = {
    "top_n": partial(whole_number, "top_n"),
    **{name: partial(check_rank_option, name) for name in ("boosts", *RANK_SETTINGS)},
    "max_length": partial(whole_number, "max_length", least=8),
    "query_max_length": partial(whole_number, "query_max_length"),
    "batch_size": partial(whole_number, "batch_size"),
}


class BioRerankCompressor(BaseDocumentCompressor):
    """Put the documents with the right evidence first; stands in for ``CrossEncoderReranker``.

    =========  =======================  =====================================================================
    theirs     default                  ours
    =========  =======================  =====================================================================
    ``model``  (required)               the same ``BaseCrossEncoder`` objects, or better the name or folder of
                                        a model; default: the embedded one
    ``top_n``  ``3``                    the same; ``None`` returns all. ``0`` and negative numbers are refused
    =========  =======================  =====================================================================

    What is returned are copies of the documents with the same ids, best first. ``metadata["relevance_score"]`` is the
    model's activation of what orders them; ``metadata["retrieval_score"]`` is the first stage's, where the document
    brought one under that key, as those of :class:`~biorerank_plugins.langchain.BioRetriever` do. The documents that
    were given stay as they are. The model never reads a score.

    A model that stores a template reads ``metadata["title"]`` and ``page_content``; any other reads ``page_content``
    alone, as with ``CrossEncoderReranker``. With ``template="{Title}. {text}"`` it reads another metadata key.

    :param model: as :class:`~biorerank_plugins.BioReranker` takes it, or a ``BaseCrossEncoder`` of LangChain. The scale
        of its scores is not known: they order the documents and are returned, but ``min_score`` and ``min_probability``
        are refused.
    :param top_n: return at most so many documents; ``None`` returns all.
    :param min_score: return only documents whose score is at least this.
    :param min_probability: return only documents whose probability of being relevant is at least this.
    :param evidence: best sentences of each returned document, at most, in ``metadata["biorerank_evidence"]``.
    :param deduplicate: keep only the first of documents that agree in one of these keys: ``"id"``, ``"pmid"``,
        ``"doi"``, ``"text"``, or a list of them. ``None`` keeps all.
    :param fusion: weight of the retrieval scores in the order, as :meth:`~biorerank_plugins.BioReranker.rank` takes it.
    :param retracted: articles that their metadata call retracted: ``"keep"``, ``"flag"``
        (``metadata["biorerank_retracted"]``) or ``"drop"``.
    :param effort: as :meth:`~biorerank_plugins.BioReranker.rank` takes it, for the first ``top_n``.
    :param boosts: :class:`~biorerank_plugins.Boosts` or their settings by name; what was added is in
        ``metadata["biorerank_boost"]``.
    :param timeout: seconds that scoring may take.
    :param device: as :class:`~biorerank_plugins.BioReranker` takes it, and so the following ones.
    :param dtype: precision the model computes in.
    :param backend: what computes.
    :param max_length: tokens a pair of query and document.
    :param query_max_length: tokens a query.
    :param batch_size: batches hold ``batch_size * max_length`` tokens; ``None`` chooses by device.
    :param template: how title, text and metadata become the text that the model reads.
    :param query_prefix: text put before each query.
    :param document_prefix: text put before each document.
    :param revision: branch, tag or commit on the hub.
    :param token: access token for the hub; it is not shown, dumped or pickled.
    :param cache_folder: where models from the hub are kept.
    :param local_files_only: True never asks the hub.
    :raises ValueError: if a setting is impossible or unknown.
    :raises ModelError: if there is no such embedded model or folder.

    Example::

        from langchain_classic.retrievers import ContextualCompressionRetriever
        from biorerank_plugins.langchain import BioRerankCompressor

        retriever = ContextualCompressionRetriever(
            base_compressor=BioRerankCompressor(top_n=5), base_retriever=store.as_retriever(search_kwargs={"k": 50})
        )
        documents = retriever.invoke("Is TP53 a tumour suppressor?")
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", validate_assignment=True)

    model: Any = Field(default=None, frozen=True)
    top_n: int | None = 3
    min_score: float | None = None
    min_probability: float | None = None
    evidence: int = 0
    deduplicate: str | tuple[str, ...] | None = None
    fusion: Fusion = "stored"
    retracted: Retracted = "keep"
    effort: Effort = "full"
    boosts: dict[str, Any] | None = None
    timeout: float | None = None
    device: Any = Field(default=None, frozen=True)
    dtype: Any = Field(default="auto", frozen=True)
    backend: str = Field(default="auto", frozen=True)
    max_length: int = Field(default=512, frozen=True)
    query_max_length: int = Field(default=128, frozen=True)
    batch_size: int | None = Field(default=None, frozen=True)
    template: str | Callable[[Passage], str] | None = Field(default=None, frozen=True)
    query_prefix: str = Field(default="", frozen=True)
    document_prefix: str = Field(default="", frozen=True)
    revision: str | None = Field(default=None, frozen=True)
    token: str | bool | None = Field(default=None, frozen=True, repr=False, exclude=True)
    cache_folder: str | os.PathLike[str] | None = Field(default=None, frozen=True)
    local_files_only: bool | None = Field(default=None, frozen=True)

    _texts: HostTexts = PrivateAttr()
    _reranker: BioReranker = PrivateAttr()

    @field_validator(*_CHECKS, mode="before")  # before pydantic's own, which would take "5" for 5 and True for 1
    @classmethod
    def _check(cls, value: Any, info: ValidationInfo) -> Any:
        name = str(info.field_name)
        if value is None:
            return None
        if name.startswith("min_") and _is_cross_encoder(info.data.get("model")):
            raise ValueError(f"{name}={value!r}: the scale of a BaseCrossEncoder is not known; give its model's name.")
        return _CHECKS[name](value)

    def model_post_init(self, context: Any, /) -> None:
        """Make the reranker; the model itself is loaded at the first use."""
        self._texts = HostTexts(self.model, self.template)
        model = _CrossEncoderScorer(self.model) if _is_cross_encoder(self.model) else self.model
        self._reranker = make_reranker(self, model, self._texts.template)

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Return copies of the best documents, best first.

        :param documents: in the order of the first stage; they are not changed.
        :param query: the question.
        :param callbacks: accepted; LangChain has no event for reranking.
        :raises ValueError: if the query is ``None`` or blank.
        :raises TypeError: if something else than documents is given.
        :raises ScoringError: if a document has no finite score.
        """
        given = check_documents(documents, query)
        ranking = self._reranker.rank(query, self._candidates(given), top_k=self.top_n, **rank_keywords(self))
        return [self._document(given[line.input_index], ranking, line) for line in ranking]

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Do as :meth:`compress_documents`, without blocking the event loop."""
        given = check_documents(documents, query)
        ranking = await self._reranker.arank(query, self._candidates(given), top_k=self.top_n, **rank_keywords(self))
        return [self._document(given[line.input_index], ranking, line) for line in ranking]

    def warm_up(self) -> None:
        """Load the model now instead of at the first use."""
        self._reranker.warm_up()

    def close(self) -> None:
        """Give the weights back; the compressor cannot be used afterwards."""
        self._reranker.close()

    def _candidates(self, documents: Sequence[Document]) -> Iterator[Candidate]:
        # An iterator: the thread that scores makes them, and not the event loop.
        for place, document in enumerate(documents, start=1):
            text, metadata = document.page_content or "", document.metadata
            id_ = document.id or f"document {place}"  # not the bare number: that may be another document's id
            passage = self._texts.passage(id_, text, without_scores(metadata), partial(str, text))
            yield host_candidate(passage, metadata.get(RETRIEVAL_SCORE), place, metadata)

    def _document(self, document: Document, ranking: Ranking, line: RankedPassage) -> Document:
        metadata = copied_metadata(document.metadata)
        # A BaseCrossEncoder's scores are what its model calls scores: the core was told that they are logits.
        for key in MARKS:
            metadata.pop(key, None)
        metadata |= ranking_marks(ranking, line)
        metadata[RELEVANCE_SCORE] = line.order_value if _is_cross_encoder(self.model) else line.score
        if line.retrieval_score is not None:
            metadata[RETRIEVAL_SCORE] = line.retrieval_score
        elif isinstance(metadata.get(RETRIEVAL_SCORE), Real):  # NaN: JSON has no word for it
            del metadata[RETRIEVAL_SCORE]
        return document.model_copy(update={"metadata": metadata})

    def __reduce__(self) -> tuple[Any, ...]:
        # Weights and locks stay behind; what is made of the settings loads the model again.
        saved = [name for name, field in type(self).model_fields.items() if not field.exclude]
        return (partial(type(self), **{name: getattr(self, name) for name in saved}), ())

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return type(self)(**{name: getattr(self, name) for name in type(self).model_fields})

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy; one with other settings is made of them anew: they are checked, and they are what counts."""
        return type(self)(**{**dict(self), **update}) if update else super().model_copy(deep=deep)


def _is_cross_encoder(model: object) -> bool:
    # By name: the class was in langchain-classic before it was in langchain-core.
    return any(base.__name__ == "BaseCrossEncoder" for base in type(model).__mro__)


class _CrossEncoderScorer:
    """A ``BaseCrossEncoder`` of LangChain as the scorer of a reranker."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._lock = threading.Lock()  # most of them share a tokenizer that is not safe to share

    def logits(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        with self._lock:
            return list(self._model.score([(query, text) for text in texts]))
