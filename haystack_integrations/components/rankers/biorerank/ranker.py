"""BioRanker: :class:`~biorerank_plugins.BioReranker` as a Haystack ranker."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from haystack import Document, component
from haystack.utils import ComponentDevice, Secret

from biorerank_plugins._common.checks import finite_number, string, whole_number
from biorerank_plugins.adapters_common import RANK_SETTINGS, check_rank_option, rank_keywords
from biorerank_plugins.articles.duplicates import Deduplicate
from biorerank_plugins.haystack.components import (
    HUB_TOKEN,
    LazyComponent,
    check_loading,
    checked_query,
    flag,
)
from biorerank_plugins.haystack.documents import DocumentTexts, check_fields
from biorerank_plugins.haystack.ranking import HOST_BATCH_SIZE, RankingCall, load_reranker
from biorerank_plugins.reranking.options import Effort, Fusion, Retracted
from biorerank_plugins.reranking.reranker import BioReranker
from biorerank_plugins.runtime.devices import BACKENDS
from biorerank_plugins.text.templates import Template, check_template

if TYPE_CHECKING:
    import torch
    from sentence_transformers import CrossEncoder

    from biorerank_plugins.articles.boosts import Boosts
    from biorerank_plugins.scoring.scores import PairScorer

__all__ = ["BioRanker"]

_KEPT = tuple(name for name in RANK_SETTINGS if name != "min_score")  # theirs is score_threshold


@component
class BioRanker(LazyComponent[tuple[BioReranker, DocumentTexts]]):
    """Ranks documents by a biomedical cross-encoder; stands in for ``SentenceTransformersSimilarityRanker``.

    The model is embedded: no download, no network. New documents come back, the given ones are not changed; the first
    stage's score is kept in ``meta["biorerank_retrieval_score"]``. The embedded model reads title (``meta["title"]``)
    and content, as it was trained; with another model, or with ``meta_fields_to_embed``, the model reads exactly the
    text that the host's ranker sends.

    =========================== =======================================================================================
    the host's argument         here
    =========================== =======================================================================================
    ``model``                   the same; ``None``: the embedded model. Also a ``CrossEncoder`` or ``PairScorer`` object
    ``device``, ``token``       the same; a device left open stays open in a saved pipeline
    ``top_k=10``                the same; must be a whole number of at least 1
    ``query_prefix``,           the same. Of a query at most ``query_max_length`` tokens are read, and a long document
    ``query_suffix``            never cuts it
    ``document_prefix``,        the same
    ``document_suffix``
    ``meta_fields_to_embed``,   the same
    ``embedding_separator``
    ``scale_score=True``        ``True``: the model's own activation of the value that orders, the sigmoid unless the
                                model's configuration says otherwise. ``False``: that value; where nothing is fused it
                                is the logit
    ``score_threshold``         the same: holds for the score that is returned
    ``trust_remote_code``       ``True`` is refused
    ``model_kwargs``            ``dtype`` or ``torch_dtype``; anything else is refused
    ``tokenizer_kwargs``        ``model_max_length``; anything else is refused
    ``config_kwargs``           refused unless empty
    ``backend="torch"``         backends of :class:`~biorerank_plugins.BioReranker`; ``"torch"``, the host's default, is
                                our ``"auto"``, which runs on torch too; others are refused
    ``batch_size=16``           16 lets the core choose batches for the device; another number limits a batch to
                                ``batch_size * max_length`` padded tokens
    =========================== =======================================================================================

    Duplicates: of documents with one id the first stays, while the host's ranker keeps the one with the highest score.

    :param model: see above.
    :param dtype: ``"auto"``, ``"float32"``, ``"bfloat16"`` or ``"float16"``.
    :param max_length: tokens read at once: the query with a document, or with one window of a longer document.
    :param query_max_length: tokens read of the query.
    :param template: how title, content and metadata become the text that the model reads, as
        :class:`~biorerank_plugins.BioReranker` takes it; not together with ``meta_fields_to_embed``.
    :param min_probability: return only documents whose probability of relevance is at least this.
    :param evidence: give each returned document its best sentences, at most so many, in ``meta["biorerank_evidence"]``:
        text, offsets, score, probability.
    :param deduplicate: ``"id"``, ``"pmid"``, ``"doi"``, ``"text"``, a list of them, or ``None`` to keep all.
    :param fusion: weight of the first stage's scores, as :meth:`~biorerank_plugins.BioReranker.rank` takes it.
    :param retracted: documents that their ``meta`` calls retracted: ``"keep"``, ``"flag"``
        (``meta["biorerank_retracted"]``) or ``"drop"``.
    :param effort: ``"auto"`` reads only what may come among the first ``top_k``, behind first stages of ours, as
        :meth:`~biorerank_plugins.BioReranker.rank` takes it.
    :param boosts: :class:`~biorerank_plugins.Boosts` or their settings by name: recent articles and strong kinds of
        study further up; what was added is in ``meta["biorerank_boost"]``.
    :param timeout: seconds after which a run raises :class:`~biorerank_plugins.errors.ScoringTimeoutError`.
    :param revision: branch, tag or commit of a model on the hub.
    :param cache_folder: where models from the hub are kept.
    :param local_files_only: True never asks the hub.
    :param no_evidence_output: also give the output ``no_evidence``, for a router. Each document says the same in
        ``meta["biorerank_no_evidence"]``.
    :raises ValueError: if an argument is impossible or refused.

    Example::

        from haystack import Document
        from haystack_integrations.components.rankers.biorerank import BioRanker

        ranker = BioRanker(top_k=3)
        documents = [Document(content="TP53 suppresses tumours."), Document(content="TP53 has 11 exons.")]
        print(ranker.run(query="Is TP53 a tumour suppressor?", documents=documents)["documents"][0].content)
    """

    def __init__(
        self,
        *,
        model: str | os.PathLike[str] | CrossEncoder | PairScorer | None = None,
        device: ComponentDevice | None = None,
        token: Secret | None = HUB_TOKEN,
        top_k: int = 10,
        query_prefix: str = "",
        query_suffix: str = "",
        document_prefix: str = "",
        document_suffix: str = "",
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        scale_score: bool = True,
        score_threshold: float | None = None,
        trust_remote_code: bool = False,
        model_kwargs: dict[str, Any] | None = None,
        tokenizer_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        backend: str = "torch",
        batch_size: int = HOST_BATCH_SIZE,
        dtype: str | torch.dtype | None = "auto",
        max_length: int = 512,
        query_max_length: int = 128,
        template: Template | None = None,
        min_probability: float | None = None,
        evidence: int = 0,
        deduplicate: Deduplicate = "id",
        fusion: Fusion = "stored",
        retracted: Retracted = "keep",
        effort: Effort = "full",
        boosts: Boosts | Mapping[str, Any] | None = None,
        timeout: float | None = None,
        revision: str | None = None,
        cache_folder: str | os.PathLike[str] | None = None,
        local_files_only: bool | None = None,
        no_evidence_output: bool = False,
    ) -> None:
        LazyComponent.__init__(self)
        self.no_evidence_output = flag("no_evidence_output", no_evidence_output)
        # One output by default, as the host's rankers: a second one would make connections by component ambiguous.
        more = {"no_evidence": bool} if no_evidence_output else {}
        component.set_output_types(self, documents=list[Document], **more)
        self.model = model
        self.device = device
        self.token = token
        self.top_k = whole_number("top_k", top_k)
        self.query_prefix = string("query_prefix", query_prefix)
        self.query_suffix = string("query_suffix", query_suffix)
        self.document_prefix = string("document_prefix", document_prefix)
        self.document_suffix = string("document_suffix", document_suffix)
        self.meta_fields_to_embed = check_fields(meta_fields_to_embed)
        self.embedding_separator = string("embedding_separator", embedding_separator)
        self.scale_score = flag("scale_score", scale_score)
        self.score_threshold = None if score_threshold is None else finite_number("score_threshold", score_threshold)
        self.trust_remote_code = trust_remote_code
        self.model_kwargs = model_kwargs
        self.tokenizer_kwargs = tokenizer_kwargs
        self.config_kwargs = config_kwargs
        self.backend = backend
        self.batch_size = whole_number("batch_size", batch_size)
        self.dtype = dtype
        self.max_length = whole_number("max_length", max_length, least=8)
        self.query_max_length = whole_number("query_max_length", query_max_length)
        self.template = None if template is None else check_template(template)
        self.min_probability = check_rank_option("min_probability", min_probability)
        self.evidence = check_rank_option("evidence", evidence)
        self.deduplicate = deduplicate
        self.fusion = check_rank_option("fusion", fusion)
        self.retracted = check_rank_option("retracted", retracted)
        self.effort = check_rank_option("effort", effort)
        self.boosts = check_rank_option("boosts", boosts)
        self.timeout = check_rank_option("timeout", timeout)
        self.revision = revision
        self.cache_folder = cache_folder
        self.local_files_only = local_files_only
        check_rank_option("deduplicate", deduplicate)
        refused = (trust_remote_code, model_kwargs, tokenizer_kwargs, config_kwargs)
        known = "auto" if backend == "onnx" else backend  # saved pipelines may name it; the reranker warns
        check_loading(device, dtype, known, *refused, backends=BACKENDS)
        if template is not None and self.meta_fields_to_embed:
            raise ValueError("Give template or meta_fields_to_embed, not both: each says what the model reads.")

    def run(
        self,
        *,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        scale_score: bool | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, Any]:
        """Return the documents, best first.

        Of the options, what is not given is what was set.

        :param query: the question.
        :param documents: the documents, in the order of the first stage if there is one.
        :param top_k: return at most so many.
        :param scale_score: whether the score is activated, or the logit.
        :param score_threshold: return only documents whose score is at least this.
        :returns: ``documents``: new documents; with ``no_evidence_output`` also ``no_evidence``: whether none of those
            given reaches the threshold that is stored with the model (False where none is stored).
        :raises ValueError: if the query is blank or an option is impossible.
        :raises ScoringError: if a document has no finite logit.
        """
        call = self._call(query, documents, top_k, scale_score, score_threshold)
        reranker, texts = self._loaded()
        ranking = reranker.rank(call.query, texts.candidates(call.documents), **call.options)
        return call.results(ranking, self.no_evidence_output)

    async def run_async(
        self,
        *,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        scale_score: bool | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, Any]:
        """Return the documents, best first, as :meth:`run` does, without blocking the event loop."""
        call = self._call(query, documents, top_k, scale_score, score_threshold)
        reranker, texts = await self._loaded_async()
        ranking = await reranker.arank(call.query, texts.candidates(call.documents), **call.options)
        return call.results(ranking, self.no_evidence_output)

    def _call(
        self, query: object, documents: object, top_k: object, scale_score: object, score_threshold: object
    ) -> RankingCall:
        return RankingCall.checked(
            checked_query(query, self.query_prefix, self.query_suffix),
            documents,
            top_k=self.top_k if top_k is None else top_k,
            scale_score=self.scale_score if scale_score is None else scale_score,
            score_threshold=self.score_threshold if score_threshold is None else score_threshold,
            **rank_keywords(self, _KEPT),
        )

    @classmethod
    def _of_today(cls, settings: dict[str, Any]) -> dict[str, Any]:
        # Before the second output could be left out it was always there, and something may be connected to it.
        old = "fusion" in settings and "no_evidence_output" not in settings
        return {**settings, "no_evidence_output": True} if old else settings

    def _load(self) -> tuple[BioReranker, DocumentTexts]:
        return load_reranker(self)

    def _release(self, resource: tuple[BioReranker, DocumentTexts]) -> None:
        resource[0].close()
