"""A biomedical bi-encoder as Haystack embedders."""

from biorerank_plugins.errors import require_extra

with require_extra("haystack"):
    from haystack_integrations.components.embedders.biorerank.document_embedder import BioDocumentEmbedder
    from haystack_integrations.components.embedders.biorerank.text_embedder import BioTextEmbedder

__all__ = ["BioDocumentEmbedder", "BioTextEmbedder"]
