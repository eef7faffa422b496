"""LangChain: a document compressor that reranks, and a retriever over a passage index.

Needs ``langchain-core``: ``pip install 'biorerank-plugins[langchain]'``.
"""

from __future__ import annotations

from biorerank_plugins.errors import require_extra

with require_extra("langchain"):
    from biorerank_plugins.langchain.compressor import BioRerankCompressor
    from biorerank_plugins.langchain.retriever import BioRetriever

__all__ = ["BioRerankCompressor", "BioRetriever"]
