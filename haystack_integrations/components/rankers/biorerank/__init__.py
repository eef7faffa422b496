"""A biomedical cross-encoder as a Haystack ranker."""

from biorerank_plugins.errors import require_extra

with require_extra("haystack"):
    from haystack_integrations.components.rankers.biorerank.ranker import BioRanker

__all__ = ["BioRanker"]
