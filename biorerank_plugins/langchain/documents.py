"""Documents of LangChain: what is asked of them, and what their metadata holds of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.documents import Document

from biorerank_plugins.adapters_common import FIRST_STAGE_KEY, MARKS

# Metadata keys of the reranker's score, as LangChain's rerankers of hosted models name it, and of the first stage's.
RELEVANCE_SCORE, RETRIEVAL_SCORE = "relevance_score", "retrieval_score"
_OURS = (RELEVANCE_SCORE, RETRIEVAL_SCORE, FIRST_STAGE_KEY, *MARKS)


class FoundDocument(Document):
    """A document as a search found it: equal to itself however high another search scored it.

    ``MultiQueryRetriever`` and its like leave out documents that equal an earlier one. Serialised, it is a
    ``Document``.
    """

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Document):
            return NotImplemented
        own, their = (without_scores(one.metadata) for one in (self, other))
        return (self.id, self.page_content, own) == (other.id, other.page_content, their)

    __hash__ = None  # type: ignore[assignment]  # as of any document

    def __repr_name__(self) -> str:
        return "Document"

    @classmethod
    def lc_id(cls) -> list[str]:
        """Return the name under which LangChain saves and loads it."""
        return [*cls.get_lc_namespace(), "Document"]


def without_scores(metadata: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return a document's metadata without ours, so that no template can make text of it."""
    return {k: v for k, v in metadata.items() if k not in _OURS}


def check_documents(documents: Sequence[Document], query: str) -> list[Document]:
    """Return the documents as a list; refuse what is none, and a query that is ``None``."""
    if query is None:
        raise ValueError("The query is None; give the question to rank for.")
    if isinstance(documents, (str, Document)) or documents is None:
        raise TypeError(f"Expected a list of documents, got {type(documents).__name__}.")
    given = list(documents)
    for item in given:
        if not isinstance(item, Document):
            raise TypeError(f"Expected documents, got {type(item).__name__}: {item!r:.80}")
    return given
