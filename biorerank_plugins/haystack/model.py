"""The model behind the ranker, of the host's arguments."""

from __future__ import annotations

from typing import Any

from biorerank_plugins.haystack.documents import DocumentTexts
from biorerank_plugins.haystack.options import device_name, dtype_name, length_limit, token_value
from biorerank_plugins.reranking.reranker import BioReranker

HOST_BATCH_SIZE = 16
"""The host's default, which leaves it to the core how much a batch holds."""


def load_reranker(ranker: Any) -> tuple[BioReranker, DocumentTexts]:
    """Return the reranker of a ranker, its model loaded, and what decides on the text that the model reads.

    :param ranker: a :class:`~haystack_integrations.components.rankers.biorerank.BioRanker`.
    :raises ModelError: if the model cannot be found or loaded.
    """
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
