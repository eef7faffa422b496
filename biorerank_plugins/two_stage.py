"""Two stages as one call: the first stage finds candidates, the reranker orders them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Unpack

from biorerank_plugins import telemetry
from biorerank_plugins._common.checks import whole_number
from biorerank_plugins.first_stage.arguments import FirstStage, check_first_stage
from biorerank_plugins.first_stage.filters import Filter
from biorerank_plugins.first_stage.protocol import FoundCandidates, SearchableIndex
from biorerank_plugins.passages import Ranking
from biorerank_plugins.reranking.options import CallKeywords, Fusion, RankKeywords, RankOptions, check_fusion
from biorerank_plugins.reranking.reranker import BioReranker
from biorerank_plugins.runtime.calls import Calls

_MOMENT = 0.001  # seconds that the reranker is given where the first stage took all there were: it says so itself


class TwoStageSearch:
    """Search a passage index and rerank what it finds.

    Where the index has no lexical part (``PassageIndex.build(…, lexical=False)``), the default falls back from
    ``"hybrid"`` to ``"dense"``; :attr:`first_stage` says which one is in use.

    A ranking's ``timings`` hold, beside the reranker's own, ``first_stage``: the seconds spent in the index. For many
    queries at once both are those of the whole call.

    :param index: where candidates come from.
    :param reranker: what orders them.
    :param first_stage: how candidates are found: ``"hybrid"`` (bi-encoder and BM25, fused), ``"dense"`` (bi-encoder) or
        ``"lexical"`` (BM25).
    :raises ValueError: if ``first_stage`` is something else.
    :raises PassageIndexError: if it is ``"lexical"`` and the index has no lexical part.

    >>> search = TwoStageSearch(index, reranker)                              # doctest: +SKIP
    >>> search.search("Do statins cause muscle pain?", top_k=3)[0].passage.id  # doctest: +SKIP
    '27870723'
    """

    def __init__(self, index: SearchableIndex, reranker: BioReranker, *, first_stage: FirstStage = "hybrid") -> None:
        self.index = index
        self.reranker = reranker
        wanted = None if first_stage == "hybrid" else first_stage
        self.first_stage = check_first_stage(wanted, has_lexical=index.lexical)
        self._calls = Calls(max_waiting=None)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), first_stage=self.first_stage), (self.index, self.reranker)

    def search(
        self,
        query: str,
        *,
        candidates: int = 100,
        filters: Filter | None = None,
        **options: Unpack[CallKeywords],
    ) -> Ranking:
        """Return the passages that answer ``query``, best first.

        :param query: the question.
        :param candidates: how many passages the first stage hands to the reranker.
        :param filters: which passages may be found at all, as :meth:`PassageIndex.search` takes them.
        :param options: as :meth:`BioReranker.rank` takes them; ``timeout`` is for the reranking.
        :raises TypeError: if ``query`` is no string, or an option is unknown.
        :raises ValueError: if ``query`` is blank, or an option is impossible.
        """
        return self.search_many([query], candidates=candidates, filters=filters, **options)[0]

    @telemetry.staged("search")
    def search_many(
        self,
        queries: Sequence[str],
        *,
        candidates: int = 100,
        filters: Filter | None = None,
        timeout: float | None = None,
        show_progress: bool = False,
        **options: Unpack[RankKeywords],
    ) -> list[Ranking]:
        """Answer many queries, in order; queries are embedded, and pairs scored, in shared batches.

        Takes the options of :meth:`search`.

        :param queries: the questions.
        :raises TypeError: if ``queries`` is one string, or holds something that is no string.
        :raises ValueError: if a query is blank, or an option is impossible.
        """
        RankOptions.of(options)  # before anything is done
        found, seconds = self._find(queries, candidates, filters)
        rankings = self.reranker.rank_many(
            zip(queries, found, strict=True), timeout=timeout, show_progress=show_progress, **options
        )
        return _noted(rankings, found, seconds)

    async def asearch(
        self, query: str, *, candidates: int = 100, filters: Filter | None = None, **options: Unpack[CallKeywords]
    ) -> Ranking:
        """Search like :meth:`search`, without blocking the event loop; same parameters.

        Cancelling it gives up what is still to be done, and ``timeout`` counts from here: it is for both stages.
        """
        return (await self.asearch_many([query], candidates=candidates, filters=filters, **options))[0]

    async def asearch_many(
        self,
        queries: Sequence[str],
        *,
        candidates: int = 100,
        filters: Filter | None = None,
        timeout: float | None = None,
        show_progress: bool = False,
        **options: Unpack[RankKeywords],
    ) -> list[Ranking]:
        """Search like :meth:`search_many`, without blocking the event loop; same parameters. See :meth:`asearch`."""
        RankOptions.of(options)
        with telemetry.stage("search"):
            started = time.perf_counter()
            found, seconds = await self._calls.run(lambda call: self._find(queries, candidates, filters), timeout, None)
            if timeout is not None:
                timeout = max(_MOMENT, timeout - (time.perf_counter() - started))
            requests = list(zip(queries, found, strict=True))
            rankings = await self.reranker.arank_many(requests, timeout=timeout, show_progress=show_progress, **options)
            return _noted(rankings, found, seconds)

    def _find(
        self, queries: Sequence[str], candidates: int, filters: Filter | None
    ) -> tuple[list[FoundCandidates], float]:
        """Return the candidates for each query, and the seconds that the first stage took."""
        candidates = whole_number("candidates", candidates)
        start = time.perf_counter()
        telemetry.note(queries=len(queries), candidates=candidates, filtered=filters is not None)
        with telemetry.stage("first_stage", kind=self.first_stage):
            lists = self.index.search_many(queries, candidates, filters=filters, first_stage=self.first_stage)
            telemetry.note(found=sum(map(len, lists)))
        return lists, time.perf_counter() - start

    def fusion_weight(self, fusion: Fusion = "stored") -> float | None:
        """Return the weight with which the first stage's scores enter the order.

        :param fusion: as :meth:`search` takes it.
        :returns: the weight; ``None`` where the order is by logit.
        :raises ValueError: if ``fusion`` is neither a number of at least 0, nor ``"stored"``, nor ``None``.
        """
        asked = check_fusion(fusion)
        if asked in ("order", "second-reader"):
            raise ValueError(f"fusion={asked!r} takes no scores: there is no weight of the first stage's.")
        if not isinstance(asked, str):
            return asked
        scores = self.index.scores_of(self.first_stage)
        return None if scores is None else self.reranker.stored_fusion(scores)


def _noted(rankings: Iterable[Ranking], found: Iterable[FoundCandidates], seconds: float) -> list[Ranking]:
    """Return rankings with what the first stage has to say."""
    return [
        replace(ranking, timings={"first_stage": seconds, **ranking.timings}, missing_shards=candidates.missing_shards)
        for ranking, candidates in zip(rankings, found, strict=True)
    ]
