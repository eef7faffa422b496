"""BioRerankPostprocessor: the reranker as a LlamaIndex node postprocessor."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from llama_index.core.bridge.pydantic import (
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_serializer,
    field_validator,
)
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle

from biorerank_plugins._common.checks import whole_number
from biorerank_plugins.adapters_common import (
    RANK_SETTINGS,
    HostTexts,
    check_rank_option,
    make_reranker,
    rank_keywords,
    saved_model_name,
)
from biorerank_plugins.llama_index.nodes import SavedBySettings, dispatcher, node_candidate, reported, reranked_node
from biorerank_plugins.llama_index.swap import from_cross_encoder_kwargs, refuse_remote_code
from biorerank_plugins.passages import Candidate, Passage, Ranking
from biorerank_plugins.reranking.options import Effort, Fusion, Retracted
from biorerank_plugins.reranking.reranker import BioReranker

__all__ = ["BioRerankPostprocessor"]

_CHECKS: dict[str, Callable[[Any], Any]] = {
    "top_n": partial(whole_number, "top_n"),
    **{name: partial(check_rank_option, name) for name in ("boosts", *RANK_SETTINGS)},
    "deduplicate": lambda value: list(check_rank_option("deduplicate", value)),
    "batch_size": partial(whole_number, "batch_size"),
    "device": str,  # as JSON can hold it: torch.device("cuda:0") is "cuda:0",
    "dtype": lambda value: str(value).removeprefix("torch."),  # and torch.float16 is "float16"
    "cache_folder": os.fspath,
}


class BioRerankPostprocessor(BaseNodePostprocessor, SavedBySettings):
    """Puts the nodes with the right evidence first; takes the place of ``SentenceTransformerRerank``.

    Nodes come out as copies, best first; those that went in are not changed. ``node.score`` is the model's activation
    of what orders them: what ``CrossEncoder.predict`` gives where nothing is fused. The model is loaded at the first
    use, or by :meth:`warm_up`. Settings survive ``to_dict``, ``from_dict`` and ``pickle``, a ``token`` excepted.

    A model that stores a template (the embedded one does) reads ``metadata["title"]`` and the node's text, without
    other metadata; any other reads the node's EMBED content, as with ``SentenceTransformerRerank``.

    ========================  ========================================================================================
    ``SentenceTransformer``   here (both LlamaIndex's core class and ``llama-index-postprocessor-sbert-rerank``)
    ``Rerank``
    ========================  ========================================================================================
    ``model``                 same; the default is the embedded biomedical model. By position or by keyword.
    ``top_n``                 same, 2 unless told otherwise; below 1 is a ``ValueError``
    ``device``                same, and it is saved
    ``keep_retrieval_score``  True, not False: the score is hidden from EMBED and LLM text, so that keeping it does no
                              harm. False leaves it out. A second reranker does not overwrite it.
    ``cache_folder``          same, and it is saved
    ``cross_encoder_kwargs``  ``max_length``, ``cache_folder``, ``revision``, ``token``, ``local_files_only``,
                              ``backend`` and the ``dtype`` of ``model_kwargs`` become the settings of these names; what
                              cannot be honoured is a ``ValueError``
    ``trust_remote_code``     False only; code that comes with a model is never run
    ========================  ========================================================================================

    :param model: as :class:`~biorerank_plugins.BioReranker` takes it: embedded model, folder, name on the hub,
        ``CrossEncoder``, or an object with ``logits(query, texts)``. Objects cannot be saved.
    :param top_n: return at most so many nodes.
    :param device: ``"cpu"``, ``"cuda"``, …; ``None`` chooses.
    :param keep_retrieval_score: whether ``metadata["retrieval_score"]`` keeps the first stage's score.
    :param min_score: return only nodes whose score is at least this.
    :param min_probability: return only nodes whose probability is at least this.
    :param evidence: give each returned node its best sentences, at most so many, in ``metadata["biorerank_evidence"]``
        (text, offsets, score, probability), hidden from EMBED and LLM text.
    :param deduplicate: keep the first of nodes that agree in ``"id"``, ``"pmid"``, ``"doi"`` or ``"text"``.
    :param fusion: weight of the retrieval scores in the order, as :meth:`BioReranker.rank` takes it. ``"stored"``: what
        the model stores for the scores of :class:`~biorerank_plugins.llama_index.BioRetriever`, else its prior from the
        ranks that the nodes' scores give. ``None``: by the model alone.
    :param retracted: articles that their metadata call retracted: ``"keep"``, ``"flag"``
        (``metadata["biorerank_retracted"]``) or ``"drop"``.
    :param effort: as :meth:`BioReranker.rank` takes it: ``"auto"`` reads only what may come among the first ``top_n``.
    :param boosts: :class:`~biorerank_plugins.Boosts` or their settings by name; what was added is in
        ``metadata["biorerank_boost"]``.
    :param timeout: seconds a call may take.
    :param dtype: as in :class:`~biorerank_plugins.BioReranker`; so are ``backend``, ``max_length``,
        ``query_max_length``, ``template``, ``query_prefix``, ``document_prefix``, ``revision``, ``token`` and
        ``local_files_only``.
    :param batch_size: batches hold ``batch_size * max_length`` tokens; ``None`` chooses by device.
    :param cache_folder: where models from the hub are kept.
    :param trust_remote_code: only False.
    :param cross_encoder_kwargs: see the table.
    :param settings: the fields by name.
    :raises ValueError: if a setting is impossible.
    :raises ModelError: if there is no such folder or embedded model.

    Example::

        from biorerank_plugins.llama_index import BioRerankPostprocessor

        query_engine = index.as_query_engine(similarity_top_k=50, node_postprocessors=[BioRerankPostprocessor(top_n=5)])
    """

    model_config = ConfigDict(extra="forbid", strict=True, validate_assignment=True)

    # What a loaded model depends on is frozen: changing it later would have no effect.
    model: Any = Field(default=None, frozen=True)
    top_n: int = 2
    device: str | None = Field(default=None, frozen=True)
    keep_retrieval_score: bool = True
    min_score: float | None = None
    min_probability: float | None = None
    evidence: int = 0
    deduplicate: list[str] | None = None
    fusion: Fusion = "stored"
    retracted: Retracted = "keep"
    effort: Effort = "full"
    boosts: dict[str, Any] | None = None
    timeout: float | None = None
    dtype: str | None = Field(default="auto", frozen=True)
    backend: str = Field(default="auto", frozen=True)
    max_length: int = Field(default=512, frozen=True)
    query_max_length: int = Field(default=128, frozen=True)
    batch_size: int | None = Field(default=None, frozen=True)
    template: str | Callable[[Passage], str] | None = Field(default=None, frozen=True)
    query_prefix: str = Field(default="", frozen=True)
    document_prefix: str = Field(default="", frozen=True)
    revision: str | None = Field(default=None, frozen=True)
    token: str | bool | None = Field(default=None, frozen=True, exclude=True, repr=False)
    cache_folder: str | None = Field(default=None, frozen=True)
    local_files_only: bool | None = Field(default=None, frozen=True)

    _reranker: BioReranker = PrivateAttr()
    _texts: HostTexts = PrivateAttr()

    def __init__(
        self,
        model: Any = None,
        *,
        trust_remote_code: bool = False,
        cross_encoder_kwargs: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        if isinstance(model, (int, float)):  # LlamaIndex's core class takes top_n first
            raise ValueError(f"model={model!r} is no model. Pass top_n by keyword: top_n={model!r}.")
        refuse_remote_code(trust_remote_code)
        more = from_cross_encoder_kwargs(cross_encoder_kwargs)
        if twice := sorted(more.keys() & settings.keys()):
            raise ValueError(f"{', '.join(twice)}: given twice, in cross_encoder_kwargs too.")
        super().__init__(**{"model": model, **settings, **more})
        self._texts = HostTexts(self.model, self.template)
        self._reranker = make_reranker(self, self.model, self._texts.template)

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which it is saved."""
        return "BioRerankPostprocessor"

    @field_validator(*_CHECKS, mode="before")
    @classmethod
    def _checked(cls, value: Any, info: ValidationInfo) -> Any:
        name = str(info.field_name)
        return None if value is None and name not in ("top_n", "evidence") else _CHECKS[name](value)

    @field_serializer("model")
    def _saved_model(self, model: Any) -> str | None:
        return saved_model_name(model)

    @field_serializer("template")
    def _saved_template(self, template: Any) -> str | None:
        if callable(template):
            raise ValueError("template is a function, which cannot be saved. Pass a format string.")
        return None if template is None else str(template)

    def warm_up(self) -> None:
        """Load the model now instead of at the first use.

        :raises ModelError: if it cannot be found or loaded.
        """
        self._reranker.warm_up()

    def close(self) -> None:
        """Give weights and threads back; the postprocessor cannot be used afterwards."""
        self._reranker.close()

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        with reported(self, nodes, query_bundle) as (query, given, result):
            ranking = self._reranker.rank(query, self._candidates(given), top_k=self.top_n, **rank_keywords(self))
            result += self._reranked(given, ranking)
        return result

    @dispatcher.span
    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        with reported(self, nodes, query_bundle) as (query, given, result):
            # The candidates are made while the worker thread reads them: hundreds of nodes would hold the event loop.
            ranking = await self._reranker.arank(
                query, self._candidates(given), top_k=self.top_n, **rank_keywords(self)
            )
            result += self._reranked(given, ranking)
        return result

    def _candidates(self, nodes: Sequence[NodeWithScore]) -> Iterator[Candidate]:
        return (node_candidate(one, rank, self._texts) for rank, one in enumerate(nodes, start=1))

    def _reranked(self, nodes: Sequence[NodeWithScore], ranking: Ranking) -> list[NodeWithScore]:
        keep = self.keep_retrieval_score
        return [reranked_node(nodes[one.input_index], ranking, one, keep_retrieval_score=keep) for one in ranking]
