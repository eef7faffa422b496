"""BioTextEmbedder: queries as vectors of :class:`~biorerank_plugins.BiEncoder`."""

from __future__ import annotations

import asyncio

from haystack import component

from biorerank_plugins.haystack.embedding import BiEncoderComponent

__all__ = ["BioTextEmbedder"]


@component
class BioTextEmbedder(BiEncoderComponent):
    """Embeds a query; stands in for ``SentenceTransformersTextEmbedder``.

    The model is embedded: no download, no network. Documents must be embedded by :class:`BioDocumentEmbedder` with the
    same model.

    ============================ ======================================================================================
    the host's argument          here
    ============================ ======================================================================================
    ``model``                    the same; ``None``: the embedded model
    ``device``, ``token``        the same; a device left open stays open in a saved pipeline
    ``prefix``                   the same; ``None``, the default: the prompt that the model stores for queries, if any,
                                 and ``""`` for none
    ``suffix``                   the same
    ``batch_size``               accepted, and without effect: batches are made by tokens
    ``progress_bar``             accepted, and without effect: no bar is drawn
    ``normalize_embeddings``     ``True`` brings vectors to length 1; ``False`` leaves that to the model, as the host's
    ``local_files_only``,        the same
    ``revision``
    ``trust_remote_code``        ``True`` is refused
    ``model_kwargs``             ``dtype`` or ``torch_dtype``; anything else is refused
    ``tokenizer_kwargs``         ``model_max_length``; anything else is refused
    ``config_kwargs``,           refused unless empty
    ``encode_kwargs``
    ``backend="torch"``          other backends are refused
    ``truncate_dim``,            refused: vectors are whole and float32
    ``quantization_ranges``,
    ``precision``
    ============================ ======================================================================================

    :param dtype: precision of the model: ``"auto"``, ``"float32"``, ``"bfloat16"`` or ``"float16"``.
    :param max_length: tokens read of a text; ``None``: what the model says.
    :param cache_folder: where models from the hub are kept.
    :raises ValueError: if an argument is impossible or refused.

    Example::

        from haystack_integrations.components.embedders.biorerank import BioTextEmbedder

        print(len(BioTextEmbedder().run("Is TP53 a tumour suppressor?")["embedding"]))
    """

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, list[float]]:
        """Embed a query.

        :param text: the query.
        :returns: ``{"embedding": [...]}``.
        :raises TypeError: if it is no string.
        """
        if not isinstance(text, str):
            raise TypeError(
                f"BioTextEmbedder takes a string, got {type(text).__name__}. Embed documents by BioDocumentEmbedder."
            )
        [vector] = self._loaded().encode_queries([text + self.suffix])
        return {"embedding": vector.tolist()}

    @component.output_types(embedding=list[float])
    async def run_async(self, text: str) -> dict[str, list[float]]:
        """Embed a query, as :meth:`run` does, without blocking the event loop."""
        return await asyncio.to_thread(self.run, text)
