"""A FAISS and BM25 passage index as a Haystack retriever."""

from biorerank_plugins.errors import require_extra

with require_extra("haystack"):
    from haystack_integrations.components.retrievers.biorerank.retriever import BioRetriever

__all__ = ["BioRetriever"]
