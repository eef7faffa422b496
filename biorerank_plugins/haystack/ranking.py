"""The ranker's model, and one call of it: what the core is given, and what becomes of its ranking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from haystack import Document

from biorerank_plugins._common.checks import finite_number, whole_number
from biorerank_plugins.haystack.components import device_name, dtype_name, flag, length_limit, token_value
from biorerank_plugins.haystack.documents import DocumentTexts, check_documents, ranked_document
from biorerank_plugins.passages import Ranking
from biorerank_plugins.reranking.reranker import BioReranker

HOST_BATCH_SIZE = 16
"""The host's default, which leaves it to the core how much a batch holds."""


def load_reranker(ranker: Any) -> tuple[BioReranker, DocumentTexts]:
    """Return the reranker of a ``BioRanker``, its model loaded, and what decides on the text that the model reads."""
    texts = DocumentTexts(
        ranker.model, ranker.template, ranker.meta_fields_to_embed, ranker.embedding_separator, ranker.document_suffix
    )
    limit = length_limit(ranker.max_length, ranker.tokenizer_kwargs) or ranker.max_length
    reranker = BioReranker(
        ranker.model,
        device=device_name(ranker.device),
        dtype=dtype_name(ranker.dtype, ranker.model_kwargs),
        backend="auto" if ranker.backend == "torch" else ranker.backend,
        max_length=limit,
        query_max_length=ranker.query_max_length,
        max_batch_tokens=None if ranker.batch_size == HOST_BATCH_SIZE else ranker.batch_size * limit,
        template=texts.template,
        document_prefix=ranker.document_prefix,
        revision=ranker.revision,
        token=token_value(ranker.token),
        cache_folder=ranker.cache_folder,
        local_files_only=ranker.local_files_only,
    )
    reranker.warm_up()
    return reranker, texts


@dataclass(frozen=True)
class RankingCall:
    """A call whose arguments were checked; made by :meth:`checked`.

    :param options: for :meth:`~biorerank_plugins.BioReranker.rank`.
    :param scaled: whether documents get the activated score, or the value before the activation.
    :param least_value: return only documents whose value before the activation is at least this.
    """

    query: str
    documents: list[Document]
    options: dict[str, Any]
    scaled: bool
    top_k: int
    least_value: float | None

    @classmethod
    def checked(
        cls, query: str, documents: object, *, top_k: object, scale_score: object, score_threshold: object, **kept: Any
    ) -> Self:
        """Return the call; raise if an option is impossible, or ``documents`` is no list of documents."""
        limit, scaled = whole_number("top_k", top_k), flag("scale_score", scale_score)
        threshold = None if score_threshold is None else finite_number("score_threshold", score_threshold)
        # A threshold on the logit is applied to the finished ranking: the core's is on the activated score, and the
        # sigmoid of a large logit is 1.0 in fp32, so that no threshold on it says the same.
        on_logit = threshold is not None and not scaled
        options = {"top_k": None if on_logit else limit, "min_score": None if on_logit else threshold, **kept}
        return cls(query, check_documents(documents), options, scaled, limit, threshold if on_logit else None)

    def results(self, ranking: Ranking, no_evidence: bool) -> dict[str, Any]:
        """Return what the component returns, of this call's ranking."""
        lines = [line for line in ranking if self.least_value is None or line.order_value >= self.least_value]
        scores = [line.score if self.scaled else line.order_value for line in lines]
        documents = [
            ranked_document(self.documents[line.input_index], score, ranking, line)
            for line, score in zip(lines[: self.top_k], scores, strict=False)
        ]
        return {"documents": documents, **({"no_evidence": bool(ranking.no_evidence)} if no_evidence else {})}
