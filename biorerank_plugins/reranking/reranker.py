"""The public core: a question and passages in, a :class:`~biorerank_plugins.passages.Ranking` out."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from biorerank_plugins import telemetry
from biorerank_plugins._common.checks import check_query, string, whole_number
from biorerank_plugins.articles.duplicates import Deduplicate
from biorerank_plugins.articles.metadata import MetadataKeys, check_metadata_keys
from biorerank_plugins.models.stored import stored_calibration, stored_fusion, stored_template
from biorerank_plugins.passages import PassageLike, Ranking
from biorerank_plugins.reranking.evidence import with_evidence
from biorerank_plugins.reranking.model_share import LoadedModel
from biorerank_plugins.reranking.options import RankOptions
from biorerank_plugins.reranking.order import Found, RankRequest, Retracted, order_candidates, refuse_non_finite
from biorerank_plugins.reranking.passage_windows import PassageReader
from biorerank_plugins.runtime.calls import Call, Calls, watched
from biorerank_plugins.scoring.scores import fold
from biorerank_plugins.text.templates import Template, check_template, wellformed
from biorerank_plugins.text.windows import Aggregation, check_windows

if TYPE_CHECKING:
    from types import TracebackType

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from sentence_transformers import CrossEncoder

    from biorerank_plugins.articles.boosts import Boosts
    from biorerank_plugins.models.calibration import Calibration
    from biorerank_plugins.scoring.cache import ScoreCacheInfo
    from biorerank_plugins.scoring.scores import PairScorer, PairScores, Scorer

__all__ = ["BioReranker"]

_OF_THIS_PROCESS = frozenset({"_calls", "_loaded"})


class BioReranker:
    """A cross-encoder that puts the passages with the right evidence first.

    The model is loaded at the first use (or by :meth:`warm_up`). One reranker may be shared by threads and tasks.
    Rerankers of one process that name the same model and the same options of it share one copy in memory; it is freed
    when the last of them is closed or forgotten. A child process after a fork may go on with it on a CPU, and raises
    :class:`~biorerank_plugins.errors.ModelError` on a GPU; pickled, for a process that is spawned, it loads the model
    there.

    The same call gives the same logits on a CPU, bit by bit, whatever else is going on. Where pairs of several calls
    share batches, as on a GPU, or the same pair is scored in another call, fp32 logits agree within 1e-5. Passages with
    equal values keep the order in which they were given.

    :param model: name of an embedded model (``None``: the default one), a folder, a name on the hub, a
        sentence-transformers ``CrossEncoder`` with one label, or any object with ``logits(query, texts)``
        (:class:`~biorerank_plugins.scoring.scores.PairScorer`).
    :param device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``; ``None`` chooses. A ``CrossEncoder`` object stays
        where it is.
    :param dtype: ``"float32"``, ``"bfloat16"``, ``"float16"``, ``"int8"`` (on a CPU, with ONNX Runtime), or ``"auto"``:
        fp16 on CUDA, bf16 on a CPU that has it natively, else fp32; a ``CrossEncoder`` object keeps its own.
    :param backend: what runs the model: ``"packed"`` without padding (BERT, ELECTRA, RoBERTa and XLM-R, on a CPU or
        CUDA), ``"torch"`` as transformers does, ``"onnx"`` with ONNX Runtime on a CPU in fp32 or int8. ``"auto"`` takes
        ONNX Runtime for int8, else the packed one where it covers model and device, and logs what it took and why.
    :param max_length: tokens a pair, or a query with one window of a longer passage. Never more than the model takes.
    :param query_max_length: tokens a query; a longer one is cut there and reported. A long passage never cuts it. At
        most half of what the model takes.
    :param max_batch_tokens: tokens a batch; ``None`` chooses by device and backend.
    :param windows: how a passage longer than ``max_length`` is read: True or ``"max"`` in windows, of which the best
        counts; ``"first"`` and ``"mean-top-2"`` count the first, or the mean of the two best; False cuts it and reports
        it as truncated. The query and the title stand before each window.
    :param window_length: tokens of the passage in a window; ``None`` for as many as fit. A short window finds an answer
        that a long one drowns in what stands around it.
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
        used go first, and :meth:`cache_info` says how many were found again. 0 keeps none. Values are those that were
        computed then: in half precision the last bits may differ from those of a new computation.
    :param max_waiting: passages that all calls together may have under way; a call beyond that raises
        :class:`~biorerank_plugins.errors.OverloadedError` at once instead of waiting. ``None`` for any number.
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
        self._query_prefix = wellformed(string("query_prefix", query_prefix))
        self.metadata_keys = check_metadata_keys(metadata_keys)
        length = None if window_length is None else whole_number("window_length", window_length, least=8)
        stride = None if window_stride is None else whole_number("window_stride", window_stride)
        self._reader = PassageReader(
            check_template(stored_template(model) if template is None else template),
            wellformed(string("document_prefix", document_prefix)),
            check_windows(windows, length, stride),
        )
        self._options: dict[str, Any] = dict(
            device=device,
            dtype=dtype,
            backend=backend,
            max_length=whole_number("max_length", max_length, least=8),
            query_max_length=whole_number("query_max_length", query_max_length),
            max_batch_tokens=None if max_batch_tokens is None else whole_number("max_batch_tokens", max_batch_tokens),
            revision=revision,
            token=token,
            cache_folder=cache_folder,
            local_files_only=local_files_only,
        )
        self._model = model
        self._cache_bytes = whole_number("cache_bytes", cache_bytes, least=0)
        self._max_waiting = None if max_waiting is None else whole_number("max_waiting", max_waiting)
        self._fusion: Mapping[str, float] | None = None
        self._stored_calibration: Calibration | None = None
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._calls = Calls(self._max_waiting)
        self._loaded = LoadedModel(self._model, self._options, self._cache_bytes, self._calls)

    def warm_up(self) -> None:
        """Load the model now instead of at the first use.

        :raises ModelError: if it cannot be found or loaded, or has more than one label.
        """
        self._open_scorer()
        self.stored_fusion("")  # reads what is stored beside the weights, before anybody waits for it
        _ = self.calibration

    @property
    def model_name(self) -> str:
        """Name or folder of the model; loads it."""
        return self._open_scorer().name

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Return how many tokens texts have, without special ones; loads the model.

        :param texts: the texts, as they are: nothing is put before them.
        :returns: the number of tokens; of words, for a model that tokenises in its own way.
        """
        return self._open_scorer().count_tokens([wellformed(text) for text in texts])

    def stored_fusion(self, scores: str) -> float | None:
        """Return the fusion weight stored with the model for the scores of a first stage.

        :param scores: the name of a bi-encoder for its cosines, ``"hybrid/<bi-encoder>"`` for the fused scores that its
            folder settles, ``"lexical"`` for BM25; scores of another first stage have another scale.
        :returns: the weight, or ``None`` if the model stores none for it.
        :raises ModelError: if what is stored is damaged.
        """
        if self._fusion is None:  # read once: a search must not wait for the disk
            self._fusion = stored_fusion(self._model)
        return self._fusion.get(scores)

    def rank(
        self,
        query: str,
        passages: Iterable[PassageLike],
        *,
        top_k: int | None = None,
        min_score: float | None = None,
        min_probability: float | None = None,
        evidence: int = 0,
        fusion: float | Literal["stored"] | None = "stored",
        deduplicate: Deduplicate = None,
        retracted: Retracted = "keep",
        boosts: Boosts | None = None,
        timeout: float | None = None,
        show_progress: bool = False,
    ) -> Ranking:
        """Put passages in order of relevance to a query.

        The order is by the model's logit, or with ``fusion`` by the logit plus the weighted score of the first stage:
        so for candidates of a :class:`~biorerank_plugins.PassageIndex` that the model stores a weight for. Equal values
        keep the order they were given in.

        :param query: the question; not empty.
        :param passages: strings, :class:`~biorerank_plugins.Passage` or :class:`~biorerank_plugins.Candidate` objects,
            in first-stage order if there is one. They are not changed.
        :param top_k: return at most so many; ``None`` returns all.
        :param min_score: return only passages whose ``score`` is at least this.
        :param min_probability: return only passages whose ``probability`` is at least this.
        :param evidence: give each returned passage its best sentences, at most so many; each sentence is scored by
            itself.
        :param fusion: weight of the first stage's scores, at least 0: candidates are ordered by
            ``logit + fusion * retrieval_score``; ``score``, ``logit`` and thresholds stay those of the model alone.
            A candidate without a retrieval score counts as the first stage's last. ``None``: by logit. ``"stored"``:
            the weight stored with the model for the scores that the candidates carry (``Candidate.first_stage``);
            where they carry none, or those of several first stages, by logit.
        :param deduplicate: keep only the first of passages that agree in one of these keys: ``"id"``, ``"pmid"``,
            ``"doi"``, ``"text"``, or a list of them. What was left out is in ``Ranking.dropped``.
        :param retracted: articles that their metadata call retracted: ``"keep"`` does not look, ``"flag"`` marks them
            (``RankedPassage.retracted``), ``"drop"`` leaves them out before scoring (``Ranking.dropped``).
        :param boosts: what to add to the logits of recent articles or of kinds of study before passages are put in
            order; reported apart (``RankedPassage.boost``).
        :param timeout: seconds after which :class:`~biorerank_plugins.errors.ScoringTimeoutError` is raised, and what
            is left of the call is forgotten. Looked at while texts are cut, tokenised, and wait to be scored; only a
            model that is being loaded, or of your own, is not interrupted.
        :param show_progress: draw a progress bar on standard error.
        :returns: the ranking; empty for no passages.
        :raises ValueError: if the query is empty or an option is impossible.
        :raises TypeError: if a passage is none, or ``boosts`` are none.
        :raises ScoringError: if a passage has no finite logit.
        :raises ScoringTimeoutError: if the time limit is reached.
        :raises OverloadedError: if too much is waiting; see ``max_waiting``.

        >>> BioReranker().rank("Is aspirin an antiplatelet drug?", [])  # doctest: +SKIP
        Ranking(query='Is aspirin an antiplatelet drug?', passages=(), ...)
        """
        return self.rank_many(
            [(query, passages)],
            top_k=top_k,
            min_score=min_score,
            min_probability=min_probability,
            evidence=evidence,
            fusion=fusion,
            deduplicate=deduplicate,
            retracted=retracted,
            boosts=boosts,
            timeout=timeout,
            show_progress=show_progress,
        )[0]

    def rank_many(
        self,
        requests: Iterable[tuple[str, Iterable[PassageLike]]],
        *,
        top_k: int | None = None,
        min_score: float | None = None,
        min_probability: float | None = None,
        evidence: int = 0,
        fusion: float | Literal["stored"] | None = "stored",
        deduplicate: Deduplicate = None,
        retracted: Retracted = "keep",
        boosts: Boosts | None = None,
        timeout: float | None = None,
        show_progress: bool = False,
    ) -> list[Ranking]:
        """Rank for several queries; their pairs share batches, which is faster than query by query.

        :param requests: (query, passages) pairs.
        :returns: one ranking a request, in the same order.
        :raises ValueError, TypeError, ScoringError: as :meth:`rank`.

        The other parameters are those of :meth:`rank`; ``timeout`` is for all requests together.
        """
        options = RankOptions.checked(
            self.metadata_keys,
            top_k=top_k,
            min_score=min_score,
            min_probability=min_probability,
            evidence=evidence,
            fusion=fusion,
            deduplicate=deduplicate,
            retracted=retracted,
            boosts=boosts,
            show_progress=show_progress,
        )
        with self._calls.begin(timeout) as call:
            return self._ranked(requests, options, call)

    @telemetry.staged("rank")
    def _ranked(
        self, requests: Iterable[tuple[str, Iterable[PassageLike]]], options: RankOptions, call: Call
    ) -> list[Ranking]:
        prepared = [RankRequest.checked(query, passages, options.rules) for query, passages in requests]
        items = [
            (self._query_text(request.query), candidate.passage)
            for request in prepared
            for candidate in request.scored()
        ]
        telemetry.note(queries=len(prepared), passages=len(items))
        if not items:  # nothing to score is no reason to load a model
            return [
                order_candidates(request, Found.nothing(), options.cut, None, self.calibration, {"rerank": 0.0})
                for request in prepared
            ]
        self._calls.take(call, len(items))
        started = time.perf_counter()
        scorer = self._open_scorer(call)
        with telemetry.stage("windows"):
            readings = self._reader.read(items, scorer, call.check)
        pairs = [(query, text) for (query, _), read in zip(items, readings, strict=True) for text in read.texts]
        scores, best = fold(
            self._score(pairs, call, options.show_progress),
            [len(read.texts) for read in readings],
            self._reader.windows.aggregation,
        )
        telemetry.note(model=scorer.name, truncated=_count_cut(scores))
        activated = scorer.activate(scores.logits)
        timings = {"rerank": time.perf_counter() - started}
        weight = partial(self._weight, options.fusion)
        rankings: list[Ranking] = []
        first = 0
        for request in prepared:
            part = slice(first, first + len(request.kept))
            found = Found(scores[part], activated[part], readings[part], best[part])
            rankings.append(order_candidates(request, found, options.cut, weight(request), self.calibration, timings))
            first = part.stop
        return self._with_evidence(rankings, options.evidence, call) if options.evidence else rankings

    @telemetry.staged("evidence")
    def _with_evidence(self, rankings: list[Ranking], count: int, call: Call) -> list[Ranking]:
        started = time.perf_counter()

        def logits(pairs: list[tuple[str, str]]) -> NDArray[np.float32]:
            read = [(self._query_text(query), self._passage_text(text)) for query, text in pairs]
            found = self._score(read, call, show_progress=False).logits
            refuse_non_finite([f"sentence {text[:40]!r}" for _, text in pairs], found)
            return found

        activate = self._open_scorer(call).activate
        answered = with_evidence(rankings, count, logits, activate, self.calibration.probability)
        seconds = time.perf_counter() - started
        return [replace(ranking, timings={**ranking.timings, "evidence": seconds}) for ranking in answered]

    @property
    def calibration(self) -> Calibration:
        """How logits become probabilities; the plain sigmoid unless something is stored with the model.

        :raises ModelError: if what is stored is damaged.
        """
        if self._stored_calibration is None:
            self._stored_calibration = stored_calibration(self._model)
        return self._stored_calibration

    def _weight(self, fusion: float | str | None, request: RankRequest) -> float | None:
        if not isinstance(fusion, str):
            return fusion
        scores = {candidate.first_stage for candidate in request.scored() if candidate.score is not None}
        name = scores.pop() if len(scores) == 1 else None
        return None if name is None else self.stored_fusion(name)

    async def arank(self, query: str, passages: Iterable[PassageLike], **options: Any) -> Ranking:
        """Rank like :meth:`rank`, without blocking the event loop; same parameters.

        Cancelling it frees its place in the queue at once, and ``timeout`` counts from here.
        """
        return (await self.arank_many([(query, passages)], **options))[0]

    async def arank_many(self, requests: Iterable[tuple[str, Iterable[PassageLike]]], **options: Any) -> list[Ranking]:
        """Rank like :meth:`rank_many`, without blocking the event loop; same parameters. See also :meth:`arank`."""
        timeout = options.pop("timeout", None)
        checked = RankOptions.checked(self.metadata_keys, **options)
        places = _count(requests)
        return await self._calls.run(partial(self._ranked, requests, checked), timeout, places)

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return the model's score of each text, in the same order.

        :param query: the query.
        :param texts: the texts; the template does not apply, the prefixes do.
        :returns: the model's own activation of the logits, as :attr:`RankedPassage.score`.
        :raises ValueError: if the query is empty.
        :raises ScoringError: if a text has no finite logit; its position stands for its id.
        """
        check_query(query)
        if isinstance(texts, str):
            raise TypeError("score() takes a list of texts, got one string. Put it in a list.")
        return [float(value) for value in self.predict([(query, text) for text in texts])]

    def predict(self, pairs: Sequence[tuple[str, str]], *, show_progress: bool = False) -> NDArray[np.float32]:
        """Return the model's score of each pair, as ``CrossEncoder.predict`` does.

        :param pairs: (query, text) pairs; one single pair gives one number, as there.
        :param show_progress: draw a progress bar on standard error.
        :returns: float32 [n].
        :raises ValueError: if a query is empty.
        :raises TypeError: if an entry is no pair of strings.
        :raises ScoringError: if a pair has no finite logit; its position stands for its id.
        """
        if len(pairs) == 2 and all(isinstance(part, str) for part in pairs):
            single: NDArray[np.float32] = self.predict([(str(pairs[0]), str(pairs[1]))])[0]
            return single
        with self._calls.begin() as call:
            texts = [self._pair_texts(pair) for pair in pairs]
            self._calls.take(call, len(texts))
            logits = self._score(texts, call, show_progress).logits
            refuse_non_finite([str(position) for position in range(len(pairs))], logits)
            return self._open_scorer(call).activate(logits)

    def cache_info(self) -> ScoreCacheInfo:
        """Return how many scores were found in the cache of ``cache_bytes``, and what it holds.

        >>> BioReranker(cache_bytes=10_000_000).cache_info().hit_rate
        0.0
        """
        return self._loaded.cache_info()

    def close(self) -> None:
        """Give weights and threads back; the reranker cannot be used afterwards. Closing twice is fine.

        Calls under way raise :class:`RuntimeError`. Weights that another reranker shares stay.
        """
        self._calls.close()
        self._loaded.close()

    def __getstate__(self) -> dict[str, Any]:
        """Return what makes another reranker like this one, for pickle and copy: it loads the model by itself."""
        return {name: value for name, value in vars(self).items() if name not in _OF_THIS_PROCESS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._start_afresh()

    def __enter__(self) -> BioReranker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _query_text(self, query: str) -> str:
        return self._query_prefix + wellformed(query)

    def _passage_text(self, text: str) -> str:
        return self._reader.prefix + wellformed(text)

    def _pair_texts(self, pair: Sequence[str]) -> tuple[str, str]:
        if isinstance(pair, str) or len(pair) != 2:
            raise TypeError(f"Expected (query, text) pairs, got {pair!r:.80}.")
        query, text = pair
        return self._query_text(check_query(query)), self._passage_text(string("A text", text))

    def _score(self, pairs: list[tuple[str, str]], call: Call, show_progress: bool) -> PairScores:
        scorer = self._open_scorer(call)
        # Equal pairs are scored once: rows of a batch differ in the last bits, and ties would not keep their order.
        places = {pair: place for place, pair in enumerate(dict.fromkeys(pairs))}

        def compute(different: list[tuple[str, str]]) -> PairScores:
            with watched(call, len(different), show_progress) as watch:
                return scorer.score(different, watch)

        return self._loaded.scores(list(places), compute)[[places[pair] for pair in pairs]]

    @property
    def _scorer(self) -> Scorer | None:
        return self._loaded.scorer

    def _open_scorer(self, call: Call | None = None) -> Scorer:
        return self._loaded.open(call or Call())


def _count_cut(scores: PairScores) -> int:
    cut = int(scores.truncated.sum())
    telemetry.count("truncations", cut, truncated="passage")
    telemetry.count("truncations", int(scores.query_truncated.sum()), truncated="query")
    return cut


def _count(requests: Iterable[tuple[str, Iterable[PassageLike]]]) -> int | None:
    """Return the number of passages; ``None`` if only reading them would tell, which may take long."""
    if not isinstance(requests, Sequence):
        return None
    passages = [request[1] for request in requests]
    return sum(map(len, passages)) if all(isinstance(given, Sized) for given in passages) else None
