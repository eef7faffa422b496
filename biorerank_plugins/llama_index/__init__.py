"""LlamaIndex: the reranker as a node postprocessor, a retriever over a passage index, and the embedded bi-encoder.

>>> from biorerank_plugins.llama_index import BioRerankPostprocessor  # doctest: +SKIP
>>> BioRerankPostprocessor(top_n=3).top_n                              # doctest: +SKIP
3
"""

from __future__ import annotations

from biorerank_plugins.errors import require_extra

with require_extra("llama-index"):
    from biorerank_plugins.llama_index.embedding import BioEmbedding
    from biorerank_plugins.llama_index.postprocessor import BioRerankPostprocessor
    from biorerank_plugins.llama_index.retriever import BioRetriever

__all__ = ["BioEmbedding", "BioRerankPostprocessor", "BioRetriever"]
