"""The public core: a question and passages in, a :class:`~biorerank_plugins.passages.Ranking` out."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from biorerank_plugins._common.checks import string, whole_number
from biorerank_plugins.articles.metadata import MetadataKeys, check_metadata_keys
from biorerank_plugins.models.stored import StoredValues, stored_template
from biorerank_plugins.passages import PassageLike, Ranking
from biorerank_plugins.reranking.model_share import ModelShare
from biorerank_plugins.reranking.options import CallKeywords, RankKeywords, RankOptions
from biorerank_plugins.reranking.pair_interface import PairInterface
from biorerank_plugins.reranking.passage_windows import PassageReader
from biorerank_plugins.reranking.pipeline import RankPipeline, count_passages
from biorerank_plugins.runtime.calls import Call, Calls
from biorerank_plugins.scoring.load_options import LoadOptions
from biorerank_plugins.text.templates import Template, check_template, wellformed
from biorerank_plugins.text.windows import Aggregation, check_windows

if TYPE_CHECKING:
    import torch
    from sentence_transformers import CrossEncoder

    from biorerank_plugins.models.calibration import Calibration
    from biorerank_plugins.scoring.scores import PairScorer, Scorer

_OF_THIS_PROCESS = frozenset({"_calls", "_share", "_stored", "_pipeline"})


class BioReranker(PairInterface):
    """A cross-encoder that puts the passages with the right evidence first.

    The model is loaded at the first use (or by :meth:`warm_up`). One reranker may be shared by threads and tasks.
    Rerankers of one process that name the same model and the same options of it share one copy in memory; it is freed
    when the last of them is closed or forgotten. A child process after a fork may go on with it on a CPU, and raises
    :class:`~biorerank_plugins.errors.ModelError` on a GPU; pickled, for a process that is spawned, it loads the model
    there.

    The same call gives the same logits on a CPU, bit by bit, whatever else is going on. Where pairs of several calls
    share batches, as on a GPU, or the same pair is scored in another call, fp32 logits agree within 1e-5. Passages with
    equal values keep the order in which they were given.

    :param model: name of an embedded model (``None``: the default one) or of one that another package offers
        (:mod:`biorerank_plugins.models.folders`), a folder, a name on the hub, a ``CrossEncoder`` with one label, or
        any object with ``logits(query, texts)`` (:class:`~biorerank_plugins.scoring.scores.PairScorer`).
    :param device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``; ``None`` chooses. A ``CrossEncoder`` object stays
        where it is.
    :param dtype: ``"float32"``, ``"bfloat16"``, ``"float16"``, ``"int8"`` (on a CPU), or ``"auto"``: fp16 on CUDA, bf16
        on a CPU that has it natively, else fp32; a ``CrossEncoder`` object keeps its own.
    :param backend: ``"packed"`` runs without padding (BERT, ELECTRA, RoBERTa and XLM-R on a CPU or CUDA, MPNet on a
        CPU), ``"torch"`` as transformers does; ``"auto"`` takes the packed one where it can, and logs what and why.
    :param max_length: tokens a pair, or a query with one window of a longer passage. Never more than the model takes.
    :param query_max_length: tokens a query, at most half of what the model takes; a longer one is cut, and reported,
        where a pair does not fit. A long passage never cuts it.
    :param max_batch_tokens: tokens a batch; ``None`` chooses by device and backend.
    :param windows: how a passage longer than ``max_length`` is read: True or ``"max"`` in windows, of which the best
        counts; ``"first"`` and ``"mean-top-2"`` count the first, or the mean of the two best; False cuts it and reports
        it as truncated. The query and the title stand before each window.
    :param window_length: tokens of the passage in a window; ``None`` for as many as fit. Short ones find more answers.
    :param window_stride: tokens from one window's start to the next; ``None`` for three quarters of a window.
    :param template: how title, text and metadata become the text that the model reads: a format string such as
        ``"{title}. {text}"``, or a function from :class:`~biorerank_plugins.Passage` to text. ``None``: what is stored
        with the model, else that one.
    :param query_prefix: text put before each query.
    :param document_prefix: text put before each passage.
    :param metadata_keys: where a passage's metadata hold PMID, DOI, year and so on, for the options of :meth:`rank`;
        ``None``: the common spellings.
    :param revision: branch, tag or commit on the hub.
    :param token: access token for the hub.
    :param cache_folder: where models from the hub are kept.
    :param local_files_only: True never asks the hub. Embedded models and folders never do.
    :param cache_bytes: memory for scores that were computed before, about 3,000 of them in 1 MB; the least recently
        used go first, and :meth:`cache_info` says how many were found again. In half precision the last bits may differ
        from those of a new computation.
    :param max_waiting: passages that all calls together may have under way; a call beyond that raises
        :class:`~biorerank_plugins.errors.OverloadedError` at once. ``None`` for any number.
    :raises ValueError: if an option is impossible.

    Example::

        from biorerank_plugins import BioReranker

        reranker = BioReranker()
        ranking = reranker.rank("Is TP53 a tumour suppressor?", ["TP53 suppresses tumours.", "TP53 has 11 exons."])
        print(ranking[0].passage.text, ranking[0].score)
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | CrossEncoder | PairScorer | None = None,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = "auto",
        backend: str = "auto",
        max_length: int = 512,
        query_max_length: int = 128,
        max_batch_tokens: int | None = None,
        windows: bool | Aggregation = True,
        window_length: int | None = 80,
        window_stride: int | None = None,
        template: Template | None = None,
        query_prefix: str = "",
        document_prefix: str = "",
        metadata_keys: MetadataKeys | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_folder: str | os.PathLike[str] | None = None,
        local_files_only: bool | None = None,
        cache_bytes: int = 0,
        max_waiting: int | None = None,
    ) -> None:
        self.metadata_keys = check_metadata_keys(metadata_keys)
        length = None if window_length is None else whole_number("window_length", window_length, least=8)
        stride = None if window_stride is None else whole_number("window_stride", window_stride)
        self._query_prefix = wellformed(string("query_prefix", query_prefix))
        self._reader = PassageReader(
            check_template(stored_template(model) if template is None else template),
            wellformed(string("document_prefix", document_prefix)),
            check_windows(windows, length, stride),
        )
        self._options = LoadOptions(
            model=model,
            device=device,
            dtype=dtype,
            backend=backend,
            max_length=max_length,
            query_max_length=query_max_length,
            max_batch_tokens=max_batch_tokens,
            revision=revision,
            token=token,
            cache_folder=cache_folder,
            local_files_only=local_files_only,
        )
        self._cache_bytes = whole_number("cache_bytes", cache_bytes, least=0)
        self._max_waiting = None if max_waiting is None else whole_number("max_waiting", max_waiting)
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._stored = StoredValues(self._options.model)
        self._calls = Calls(self._max_waiting)
        self._share = ModelShare(self._options, self._cache_bytes, self._calls)
        self._pipeline = RankPipeline(
            self._share, self._reader, self._stored, self._query_prefix, self.metadata_keys, self._calls
        )

    def warm_up(self) -> None:
        """Load the model now instead of at the first use.

        :raises ModelError: if it cannot be found or loaded, or has more than one label.
        """
        self._share.open(Call())
        self._stored.read()  # what is stored beside the weights, before anybody waits for it

    @property
    def model_name(self) -> str:
        """Name or folder of the model; loads it."""
        return self._share.open(Call()).name

    @property
    def calibration(self) -> Calibration:
        """How logits become probabilities; the plain sigmoid unless something is stored with the model.

        :raises ModelError: if what is stored is damaged.
        """
        return self._stored.calibration

    def stored_fusion(self, scores: str) -> float | None:
        """Return the fusion weight stored with the model for the scores of a first stage.

        :param scores: the name of a bi-encoder for its cosines, ``"hybrid/<bi-encoder>"`` for the fused scores that its
            folder settles, ``"lexical"`` for BM25; scores of another first stage have another scale.
        :returns: the weight, or ``None`` if the model stores none for it.
        :raises ModelError: if what is stored is damaged.
        """
        found = self._stored.fusion.get(scores)
        return None if found is None else found.weight

    def rank(
        self,
        query: str,
        passages: Iterable[PassageLike] | None = None,
        *,
        documents: Iterable[PassageLike] | None = None,
        timeout: float | None = None,
        show_progress: bool = False,
        **options: Unpack[RankKeywords],
    ) -> Ranking:
        """Put passages in order of relevance to a query.

        The order is by the model's logit. Where candidates carry scores of a first stage these enter too, as the model
        stores it, unless ``fusion=None`` is asked for. Equal values keep the order they were given in.

        :param query: the question; not empty.
        :param passages: strings, :class:`~biorerank_plugins.Passage` or :class:`~biorerank_plugins.Candidate` objects,
            in first-stage order if there is one. They are not changed.
        :param documents: the same by the name it has in ``CrossEncoder.rank``.
        :param timeout: seconds after which :class:`~biorerank_plugins.errors.ScoringTimeoutError` is raised, and what
            is left of the call is forgotten. Only a model that is being loaded, or of your own, is not interrupted.
        :param show_progress: draw a progress bar on standard error.
        :param options: ``top_k``, ``min_score``, ``min_probability``, ``evidence``, ``fusion``, ``deduplicate``,
            ``retracted``, ``boosts``: see :class:`~biorerank_plugins.reranking.options.RankOptions`.
        :returns: the ranking; empty for no passages.
        :raises ValueError: if the query is empty or an option is impossible.
        :raises TypeError: if something given is not a passage, or an option is unknown.
        :raises ScoringError: if a passage has no finite logit.
        :raises ScoringTimeoutError: if the time limit is reached.
        :raises OverloadedError: if too much is waiting; see ``max_waiting``.

        >>> BioReranker().rank("Is aspirin an antiplatelet drug?", [])  # doctest: +SKIP
        Ranking(query='Is aspirin an antiplatelet drug?', passages=(), ...)
        """
        given = documents if passages is None else passages
        if given is None or (passages is not None and documents is not None):
            raise TypeError("rank() takes passages, or documents, which is the same by CrossEncoder's name: give one.")
        return self.rank_many([(query, given)], timeout=timeout, show_progress=show_progress, **options)[0]

    def rank_many(
        self,
        requests: Iterable[tuple[str, Iterable[PassageLike]]],
        *,
        timeout: float | None = None,
        show_progress: bool = False,
        **options: Unpack[RankKeywords],
    ) -> list[Ranking]:
        """Rank for several queries; their pairs share batches, which is faster than query by query.

        :param requests: (query, passages) pairs.
        :param timeout: seconds for all requests together.
        :param show_progress: as :meth:`rank` takes it.
        :param options: as :meth:`rank` takes them.
        :returns: one ranking a request, in the same order; the errors are those of :meth:`rank`.
        """
        checked = RankOptions.of(options)
        with self._calls.begin(timeout) as call:
            return self._pipeline.rank(requests, checked, show_progress, call)

    async def arank(self, query: str, passages: Iterable[PassageLike], **options: Unpack[CallKeywords]) -> Ranking:
        """Rank like :meth:`rank`, without blocking the event loop; same parameters.

        Cancelling it frees its place in the queue at once, and ``timeout`` counts from here.
        """
        return (await self.arank_many([(query, passages)], **options))[0]

    async def arank_many(
        self,
        requests: Iterable[tuple[str, Iterable[PassageLike]]],
        *,
        timeout: float | None = None,
        show_progress: bool = False,
        **options: Unpack[RankKeywords],
    ) -> list[Ranking]:
        """Rank like :meth:`rank_many`, without blocking the event loop; same parameters. See also :meth:`arank`."""
        work = partial(self._pipeline.rank, requests, RankOptions.of(options), show_progress)
        return await self._calls.run(work, timeout, count_passages(requests))

    @property
    def _scorer(self) -> Scorer | None:
        """The model, if it is loaded."""
        return self._share.scorer

    def close(self) -> None:
        """Give weights and threads back; the reranker cannot be used afterwards. Closing twice is fine.

        Calls under way raise :class:`RuntimeError`. Weights that another reranker shares stay.
        """
        self._calls.close()
        self._share.close()

    def __getstate__(self) -> dict[str, Any]:
        # For pickle and copy: what makes another reranker like this one, which loads the model by itself.
        return {name: value for name, value in vars(self).items() if name not in _OF_THIS_PROCESS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._start_afresh()

    def __enter__(self) -> BioReranker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
