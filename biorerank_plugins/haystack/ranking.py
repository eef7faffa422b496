"""One call of the ranker: what the core is given, and what becomes of its ranking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from haystack import Document

from biorerank_plugins._common.checks import finite_number, whole_number
from biorerank_plugins.haystack.documents import check_documents, ranked_document
from biorerank_plugins.haystack.options import flag
from biorerank_plugins.passages import Ranking


@dataclass(frozen=True)
class RankingCall:
    """A call whose arguments were checked; made by :meth:`checked`.

    :param query: the query.
    :param documents: the caller's documents.
    :param options: for :meth:`~biorerank_plugins.BioReranker.rank`.
    :param scaled: whether documents get the activated score, or the value before the activation.
    :param top_k: return at most so many.
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
        """Return the call.

        :param kept: options for the core as they are.
        :raises ValueError: if an option is impossible.
        :raises TypeError: if ``documents`` is no list of documents.
        """
        limit, scaled = whole_number("top_k", top_k), flag("scale_score", scale_score)
        threshold = None if score_threshold is None else finite_number("score_threshold", score_threshold)
        # A threshold on the logit is applied to the finished ranking: the core's is on the activated score, and the
        # sigmoid of a large logit is 1.0 in fp32, so that no threshold on it says the same.
        on_logit = threshold is not None and not scaled
        options = {"top_k": None if on_logit else limit, "min_score": None if on_logit else threshold, **kept}
        return cls(query, check_documents(documents), options, scaled, limit, threshold if on_logit else None)

    def results(self, ranking: Ranking, no_evidence: bool) -> dict[str, Any]:
        """Return what the component returns, of this call's ranking.

        :param no_evidence: whether that output is asked for.
        """
        lines = [line for line in ranking if self.least_value is None or line.order_value >= self.least_value]
        scores = [line.score if self.scaled else line.order_value for line in lines]
        documents = [
            ranked_document(self.documents[line.input_index], score, ranking, line)
            for line, score in zip(lines[: self.top_k], scores, strict=False)
        ]
        return {"documents": documents, **({"no_evidence": bool(ranking.no_evidence)} if no_evidence else {})}
