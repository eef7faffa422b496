"""Scoring on a server: ours, Text Embeddings Inference, Cohere's or Jina's protocol."""

from biorerank_plugins.scoring.remote.scorer import RemoteScorer

__all__ = ["RemoteScorer"]
