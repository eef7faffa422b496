"""BioRetriever: a passage index as a LlamaIndex retriever."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable
from typing import Any, Self

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager
from llama_index.core.schema import BaseNode, IndexNode, NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import MetadataFilters

from biorerank_plugins._common.checks import whole_number
from biorerank_plugins.adapters_common import OnBad, index_passages
from biorerank_plugins.first_stage.arguments import FirstStage, check_first_stage
from biorerank_plugins.first_stage.protocol import Encoder, SearchableIndex
from biorerank_plugins.llama_index.metadata_filters import index_filter
from biorerank_plugins.llama_index.nodes import dispatcher, found_node, node_passage, query_text
from biorerank_plugins.scale.opening import open_index

__all__ = ["BioRetriever"]

logger = logging.getLogger(__name__)


class BioRetriever(BaseRetriever):
    """Finds nodes by their vectors and their words in a :class:`~biorerank_plugins.PassageIndex`.

    A higher score is better. Nodes keep their id, metadata and relationships; passages that never were nodes become
    ``TextNode`` objects with the title in their metadata. The nodes say what their scores are, so that
    :class:`~biorerank_plugins.llama_index.BioRerankPostprocessor` can weigh them in; nothing of it is in the text.

    The question is ``query_bundle.query_str``; ``custom_embedding_strs`` and ``embedding`` are not used.

    :param index: a passage index, or the folder that one was saved in.
    :param similarity_top_k: number of nodes; give a reranker 50 to 100.
    :param filters: which nodes may be found; applied before ``similarity_top_k``.
    :param first_stage: ``"hybrid"`` (bi-encoder and BM25, fused; the bi-encoder alone where the index has no lexical
        part), ``"dense"`` or ``"lexical"``.
    :param callback_manager: as in any retriever.
    :param object_map: what index nodes point to, by ``index_id``.
    :param objects: index nodes whose objects are taken, instead of ``object_map``.
    :param verbose: as in any retriever.
    :raises ValueError: if an argument is impossible, or a filter cannot be expressed.
    :raises PassageIndexError: if the folder holds no index, or ``first_stage`` needs a lexical part that is not there.

    Example::

        retriever = BioRetriever("my-index", similarity_top_k=50)
        query_engine = RetrieverQueryEngine.from_args(retriever, node_postprocessors=[BioRerankPostprocessor(top_n=5)])
    """

    def __init__(
        self,
        index: SearchableIndex | str | os.PathLike[str],
        similarity_top_k: int = 10,
        filters: MetadataFilters | None = None,
        first_stage: FirstStage = "hybrid",
        callback_manager: CallbackManager | None = None,
        object_map: dict[str, Any] | None = None,
        objects: list[IndexNode] | None = None,
        verbose: bool = False,
    ) -> None:
        self.similarity_top_k = similarity_top_k
        self.left_out: tuple[str, ...] = ()
        """Ids of the nodes that :meth:`from_nodes` left out."""
        self._filter = index_filter(filters)
        self.index = index if isinstance(index, SearchableIndex) else open_index(index)
        """The passage index; ``retriever.index.save(folder)`` keeps it."""
        wanted = None if first_stage == "hybrid" else first_stage
        self.first_stage = check_first_stage(wanted, has_lexical=self.index.lexical)
        """The first stage in use."""
        super().__init__(callback_manager=callback_manager, object_map=object_map, objects=objects, verbose=verbose)

    @classmethod
    def from_nodes(
        cls,
        nodes: Iterable[BaseNode],
        *,
        encoder: Encoder | None = None,
        factory: str = "Flat",
        lexical: bool = True,
        show_progress: bool = False,
        on_bad: OnBad = "error",
        **options: Any,
    ) -> Self:
        """Index nodes in memory.

        :param nodes: the nodes, each with a text; they are not changed. ``metadata["title"]`` is read as their title.
        :param encoder: as in :meth:`PassageIndex.build`, like ``factory``, ``lexical`` and ``show_progress``.
        :param factory: the kind of FAISS index.
        :param lexical: whether to index words too.
        :param show_progress: whether to show a progress bar.
        :param on_bad: ``"skip"`` leaves out nodes without a text, as those of images; :attr:`left_out` and the log
            name them.
        :param options: arguments of the class.
        :raises ValueError: if a node has no text, an id comes twice, or metadata is not JSON; the message names it.
        :raises PassageIndexError: if there are no nodes.
        """
        given = list(nodes)
        if "object_map" not in options and "objects" not in options:
            options["objects"] = [node for node in given if isinstance(node, IndexNode) and node.obj is not None]
        passages = map(node_passage, given)
        index, left_out = index_passages(
            passages, on_bad, encoder=encoder, factory=factory, lexical=lexical, show_progress=show_progress
        )
        made = cls(index, **options)
        made.left_out = left_out
        return made

    @property
    def similarity_top_k(self) -> int:
        """Number of nodes; may be set."""
        return self._similarity_top_k

    @similarity_top_k.setter
    def similarity_top_k(self, value: int) -> None:
        self._similarity_top_k = whole_number("similarity_top_k", value)

    @dispatcher.span
    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._find, query_bundle)  # not _retrieve, which is a span of its own

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self._find(query_bundle)

    def _find(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        if isinstance(query_bundle, QueryBundle) and query_bundle.custom_embedding_strs is not None:
            logger.warning("BioRetriever searches for the question itself; custom_embedding_strs are not used.")
        found = self.index.search(
            query_text(query_bundle), self.similarity_top_k, filters=self._filter, first_stage=self.first_stage
        )
        return [found_node(candidate) for candidate in found]
