"""BioDocumentEmbedder: documents as vectors of :class:`~biorerank_plugins.BiEncoder`."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from haystack import Document, component
from haystack.utils import ComponentDevice, Secret

from biorerank_plugins._common.checks import string
from biorerank_plugins.adapters_common import copied_metadata
from biorerank_plugins.haystack.components import HUB_TOKEN
from biorerank_plugins.haystack.documents import as_passage, check_documents, check_fields, joined_text
from biorerank_plugins.haystack.embedding import BI_ENCODER_SETTINGS, BiEncoderComponent
from biorerank_plugins.passages import Passage

if TYPE_CHECKING:
    import torch

    from biorerank_plugins.first_stage.encoder import TitleUse

__all__ = ["BioDocumentEmbedder"]


@component
class BioDocumentEmbedder(BiEncoderComponent):
    """Embeds documents; stands in for ``SentenceTransformersDocumentEmbedder``.

    New documents come back, the given ones are not changed. The arguments are those of :class:`BioTextEmbedder`, with
    the prompt that the model stores for passages, and ``meta_fields_to_embed`` and ``embedding_separator`` as in the
    host's class. Without them, the embedded model reads title (``meta["title"]``) and content, as it was trained, and
    another model reads the content, as it does in the host's class.

    :param meta_fields_to_embed: keys of ``meta`` whose values are put before the content.
    :param embedding_separator: what is put between them.
    :param title: ``"join"`` reads title and content as one text, ``"pair"`` as two, ``"omit"`` only the content;
        ``None``: as above.
    :raises ValueError: if an argument is impossible or refused.

    Example::

        from haystack import Document
        from haystack_integrations.components.embedders.biorerank import BioDocumentEmbedder

        documents = [Document(content="It suppresses tumours.", meta={"title": "TP53"})]
        print(len(BioDocumentEmbedder().run(documents)["documents"][0].embedding))
    """

    def __init__(
        self,
        *,
        model: str | os.PathLike[str] | None = None,
        device: ComponentDevice | None = None,
        token: Secret | None = HUB_TOKEN,
        prefix: str | None = None,
        suffix: str = "",
        batch_size: int = 32,
        progress_bar: bool = True,
        normalize_embeddings: bool = False,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        trust_remote_code: bool = False,
        local_files_only: bool = False,
        truncate_dim: int | None = None,
        model_kwargs: dict[str, Any] | None = None,
        tokenizer_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        precision: str = "float32",
        encode_kwargs: dict[str, Any] | None = None,
        backend: str = "torch",
        revision: str | None = None,
        quantization_ranges: list[list[float]] | None = None,
        dtype: str | torch.dtype = "auto",
        max_length: int | None = None,
        cache_folder: str | os.PathLike[str] | None = None,
        title: TitleUse | None = None,
    ) -> None:
        # Haystack reads the names from this signature, so that they cannot come as keywords of any name.
        shared = {name: value for name, value in locals().items() if name in BI_ENCODER_SETTINGS}
        BiEncoderComponent.__init__(self, **shared)
        self.meta_fields_to_embed = check_fields(meta_fields_to_embed)
        self.embedding_separator = string("embedding_separator", embedding_separator)
        self.title = title
        if title is not None and self.meta_fields_to_embed:
            raise ValueError("Give title or meta_fields_to_embed, not both: each says what the model reads.")

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        """Embed documents.

        :param documents: the documents.
        :returns: ``{"documents": [...]}``: new documents with ``embedding``, in the same order.
        :raises TypeError: if it is no list of documents.
        """
        given = check_documents(documents)
        vectors = self._loaded().encode_passages([self._passage(document) for document in given])
        return {
            "documents": [
                replace(document, embedding=vector.tolist(), meta=copied_metadata(document.meta))
                for document, vector in zip(given, vectors, strict=True)
            ]
        }

    @component.output_types(documents=list[Document])
    async def run_async(self, documents: list[Document]) -> dict[str, list[Document]]:
        """Embed documents, as :meth:`run` does, without blocking the event loop."""
        return await asyncio.to_thread(self.run, documents)

    def _passage(self, document: Document) -> Passage:
        text = joined_text(document, self.meta_fields_to_embed, self.embedding_separator) + self.suffix
        return replace(as_passage(document), text=text)

    def _title(self) -> TitleUse:
        if self.title is not None:
            return self.title
        return "join" if self._embedded_model and not self.meta_fields_to_embed else "omit"
