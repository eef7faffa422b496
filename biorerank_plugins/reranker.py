"""The public core: a question and passages in, a :class:`~biorerank_plugins.passages.Ranking` out."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from weakref import WeakSet

from biorerank_plugins.checks import check_query, positive_number, string, whole_number
from biorerank_plugins.errors import ModelError, ScoringTimeoutError
from biorerank_plugins.evidence import with_evidence
from biorerank_plugins.metadata import MetadataKeys, check_metadata_keys
from biorerank_plugins.ordering import (
    ArticleRules,
    Cut,
    Found,
    Request,
    Retracted,
    check_fusion,
    order_candidates,
    refuse_non_finite,
)
from biorerank_plugins.passages import PassageLike, Ranking
from biorerank_plugins.reading import PassageReader
from biorerank_plugins.settings import stored_calibration, stored_fusion, stored_template
from biorerank_plugins.text import Deduplicate, Template, check_template, wellformed
from biorerank_plugins.windows import Aggregation, check_windows, fold

if TYPE_CHECKING:
    from types import TracebackType

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from sentence_transformers import CrossEncoder

    from biorerank_plugins.boosts import Boosts
    from biorerank_plugins.calibration import Calibration
    from biorerank_plugins.scoring import Check, PairScorer, PairScores, Scorer
    from biorerank_plugins.scoring.passage_tokens import PassageTokens
    from biorerank_plugins.scoring.token_cache import TokenIdCache

__all__ = ["BioReranker"]

T = TypeVar("T")
_CLOSED = "This reranker is closed."
# They tokenise and wait; the model itself runs in one thread. Each is started on the event loop, which waits for it.
_WAITING_THREADS = 8
_OF_THIS_PROCESS = frozenset({"_scorer", "_token_caches", "_executor", "_closed", "_lock", "_loading"})


class BioReranker:
    """A cross-encoder that puts the passages with the right evidence first.

    The model is loaded at the first use (or by :meth:`warm_up`). One reranker may be shared by threads and tasks.

    :param model: name of an embedded model (``None``: the default one), a folder, a name on the hub, a
        sentence-transformers ``CrossEncoder`` with one label, or any object with ``logits(query, texts)``
        (:class:`~biorerank_plugins.scoring.PairScorer`).
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
        self._load: Callable[[], Scorer] = partial(
            _load,
            model,
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
        self._fusion: Mapping[str, float] | None = None
        self._stored_calibration: Calibration | None = None
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._scorer: Scorer | None = None
        self._token_caches: WeakSet[TokenIdCache] = WeakSet()
        self._executor: ThreadPoolExecutor | None = None
        self._closed = False
        self._lock = threading.Lock()  # held for moments only: the event loop takes it too
        self._loading = threading.Lock()  # held while the model is loaded

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

    def use_token_cache(self, cache: TokenIdCache | None) -> None:
        """Look for the token ids of passages in a cache, beside those that are in use already.

        Scores stay the same. A cache of another tokenizer is not used. The cache is not kept alive.

        :param cache: ``PassageIndex.token_ids``; :class:`~biorerank_plugins.TwoStageSearch` does this by itself.
            ``None``, of an index without them, does nothing.
        """
        if cache is None:
            return
        with self._lock:
            self._token_caches.add(cache)
            scorer = self._scorer
        _attach(cache, scorer)

    def passage_tokens(self) -> PassageTokens:
        """Return how passages become token ids, for :meth:`PassageIndex.cache_tokens`; loads the model.

        :raises ModelError: if the model tokenises in its own way.
        """
        from biorerank_plugins.scoring.passage_tokens import PassageTokens

        scorer = self._open_scorer()
        ids = getattr(scorer, "text_ids", None)
        if ids is None:
            raise ModelError(
                f"Token ids cannot be stored for {scorer.name}: it puts its input together in its own way. "
                "Use the index without them."
            )
        return PassageTokens.of(ids, self._reader.template, self._reader.prefix, self._model)

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
        :param timeout: seconds after which :class:`~biorerank_plugins.errors.ScoringTimeoutError` is raised; looked at
            before each batch.
        :param show_progress: draw a progress bar on standard error.
        :returns: the ranking; empty for no passages.
        :raises ValueError: if the query is empty or an option is impossible.
        :raises TypeError: if a passage is none, or ``boosts`` are none.
        :raises ScoringError: if a passage has no finite logit.

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
        cut = Cut.checked(top_k, min_score, min_probability)
        rules = ArticleRules.checked(self.metadata_keys, deduplicate, retracted, boosts)
        evidence = whole_number("evidence", evidence, least=0)
        fusion = check_fusion(fusion)
        deadline = None if timeout is None else time.monotonic() + positive_number("timeout", timeout)
        prepared = [Request.checked(query, passages, rules) for query, passages in requests]
        items = [
            (self._query_text(request.query), candidate.passage)
            for request in prepared
            for candidate in request.scored()
        ]
        if not items:  # nothing to score is no reason to load a model
            self._loaded()
            return [
                order_candidates(request, Found.nothing(), cut, None, self.calibration, {"rerank": 0.0})
                for request in prepared
            ]
        started = time.perf_counter()
        readings = self._reader.read(items, self._open_scorer())
        pairs = [(query, text) for (query, _), read in zip(items, readings, strict=True) for text in read.texts]
        scores, best = fold(
            self._score(pairs, deadline, show_progress),
            [len(read.texts) for read in readings],
            self._reader.windows.aggregation,
        )
        activated = self._open_scorer().activate(scores.logits)
        timings = {"rerank": time.perf_counter() - started}
        weight = partial(self._weight, fusion)
        rankings: list[Ranking] = []
        first = 0
        for request in prepared:
            part = slice(first, first + len(request.kept))
            found = Found(scores[part], activated[part], readings[part], best[part])
            rankings.append(order_candidates(request, found, cut, weight(request), self.calibration, timings))
            first = part.stop
        return self._with_evidence(rankings, evidence, deadline) if evidence else rankings

    def _with_evidence(self, rankings: list[Ranking], count: int, deadline: float | None) -> list[Ranking]:
        started = time.perf_counter()

        def logits(pairs: list[tuple[str, str]]) -> NDArray[np.float32]:
            read = [(self._query_text(query), self._passage_text(text)) for query, text in pairs]
            found = self._score(read, deadline, show_progress=False).logits
            refuse_non_finite([f"sentence {text[:40]!r}" for _, text in pairs], found)
            return found

        answered = with_evidence(rankings, count, logits, self._open_scorer().activate, self.calibration.probability)
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

    def _weight(self, fusion: float | str | None, request: Request) -> float | None:
        if not isinstance(fusion, str):
            return fusion
        scores = {candidate.first_stage for candidate in request.scored() if candidate.score is not None}
        name = scores.pop() if len(scores) == 1 else None
        return None if name is None else self.stored_fusion(name)

    async def arank(self, query: str, passages: Iterable[PassageLike], **options: Any) -> Ranking:
        """Rank like :meth:`rank`, without blocking the event loop; same parameters."""
        return await self._in_thread(partial(self.rank, query, passages, **options))

    async def arank_many(self, requests: Iterable[tuple[str, Iterable[PassageLike]]], **options: Any) -> list[Ranking]:
        """Rank like :meth:`rank_many`, without blocking the event loop; same parameters."""
        return await self._in_thread(partial(self.rank_many, requests, **options))

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
        logits = self._score([self._pair_texts(pair) for pair in pairs], None, show_progress).logits
        refuse_non_finite([str(position) for position in range(len(pairs))], logits)
        return self._open_scorer().activate(logits)

    def close(self) -> None:
        """Give weights and threads back; the reranker cannot be used afterwards. Closing twice is fine."""
        with self._lock:
            scorer, executor = self._scorer, self._executor
            self._scorer = self._executor = None
            self._closed = True
        if scorer is not None:
            scorer.close()
        if executor is not None:
            executor.shutdown(wait=False)

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

    def _score(self, pairs: list[tuple[str, str]], deadline: float | None, show_progress: bool) -> PairScores:
        scorer = self._open_scorer()
        # Equal pairs are scored once: rows of a batch differ in the last bits, and ties would not keep their order.
        places = {pair: place for place, pair in enumerate(dict.fromkeys(pairs))}
        with _progress(len(places), show_progress) as advance:

            def check(done: int) -> None:
                if deadline is not None and time.monotonic() > deadline:
                    raise ScoringTimeoutError(f"Scoring took too long: {done} of {len(places)} texts were scored.")
                advance(done)

            scores = scorer.score(list(places), check)
            advance(len(places))
        return scores[[places[pair] for pair in pairs]]

    def _open_scorer(self) -> Scorer:
        with self._loading:
            scorer = self._loaded()
            if scorer is None:
                scorer = self._load()
                with self._lock:
                    self._scorer = scorer
                    caches = list(self._token_caches)
                for cache in caches:
                    _attach(cache, scorer)
                if self._closed:  # while it was loading
                    self.close()
                self._loaded()
            return scorer

    def _loaded(self) -> Scorer | None:
        with self._lock:
            if self._closed:
                raise RuntimeError(_CLOSED)
            return self._scorer

    async def _in_thread(self, call: Callable[[], T]) -> T:
        # A pool of its own: asyncio's default one is shared with everything else that the host runs in threads.
        with self._lock:
            if self._closed:
                raise RuntimeError(_CLOSED)
            if self._executor is None:
                self._executor = ThreadPoolExecutor(max_workers=_WAITING_THREADS, thread_name_prefix="biorerank")
            executor = self._executor
        return await asyncio.get_running_loop().run_in_executor(executor, call)


def _attach(cache: TokenIdCache, scorer: Scorer | None) -> None:
    use = getattr(scorer, "use_token_cache", None)  # scorers that leave tokenising to others have none
    if use is not None:
        use(cache)


def _load(*args: Any, **options: Any) -> Scorer:
    from biorerank_plugins.scoring import load_scorer  # torch is loaded here, not with the package

    return load_scorer(*args, **options)


@contextmanager
def _progress(total: int, shown: bool) -> Iterator[Check]:
    """Draw a progress bar; gives the function to call with the number of pairs done."""
    from tqdm.auto import tqdm

    with tqdm(total=total, disable=not shown, unit="pair", desc="Reranking", leave=False) as bar:
        yield lambda done: bar.update(done - bar.n)
