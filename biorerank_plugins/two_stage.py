"""Two stages as one call: the first stage finds candidates, the reranker orders them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from biorerank_plugins import telemetry
from biorerank_plugins._common.checks import whole_number
from biorerank_plugins.first_stage.arguments import check_first_stage
from biorerank_plugins.passages import Ranking
from biorerank_plugins.reranking.order import check_fusion

if TYPE_CHECKING:
    from biorerank_plugins.articles.boosts import Boosts
    from biorerank_plugins.articles.duplicates import Deduplicate
    from biorerank_plugins.first_stage.arguments import FirstStage
    from biorerank_plugins.first_stage.filters import Filter
    from biorerank_plugins.first_stage.index import PassageIndex
    from biorerank_plugins.reranking.order import Retracted
    from biorerank_plugins.reranking.reranker import BioReranker
    from biorerank_plugins.scale.sharded import ShardedIndex

__all__ = ["TwoStageSearch"]


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

    def __init__(
        self, index: PassageIndex | ShardedIndex, reranker: BioReranker, *, first_stage: FirstStage = "hybrid"
    ) -> None:
        self.index = index
        self.reranker = reranker
        wanted = None if first_stage == "hybrid" else first_stage
        self.first_stage = check_first_stage(wanted, has_lexical=index.lexical)

    def search(
        self,
        query: str,
        *,
        candidates: int = 100,
        filters: Filter | None = None,
        top_k: int | None = None,
        min_score: float | None = None,
        min_probability: float | None = None,
        evidence: int = 0,
        fusion: float | Literal["stored"] | None = "stored",
        deduplicate: Deduplicate = None,
        retracted: Retracted = "keep",
        boosts: Boosts | None = None,
        timeout: float | None = None,
    ) -> Ranking:
        """Return the passages that answer ``query``, best first.

        :param query: the question.
        :param candidates: how many passages the first stage hands to the reranker.
        :param filters: which passages may be found at all, as :meth:`PassageIndex.search` takes them.
        :param top_k: return at most so many; ``None`` returns all candidates.
        :param min_score: return only passages whose ``score`` is at least this.
        :param min_probability: return only passages whose ``probability`` is at least this.
        :param evidence: best sentences a passage, as :meth:`BioReranker.rank` takes it.
        :param fusion: weight of the first stage's scores in the order, as :meth:`BioReranker.rank` takes it;
            ``"stored"`` takes what is stored with the model for the scores of this first stage, if anything.
        :param deduplicate: which duplicates to drop, as :meth:`BioReranker.rank` takes it.
        :param retracted: what becomes of retracted articles, as :meth:`BioReranker.rank` takes it.
        :param boosts: of recent articles or of kinds of study, as :meth:`BioReranker.rank` takes them.
        :param timeout: seconds the reranking may take.
        :raises TypeError: if ``query`` is no string.
        :raises ValueError: if ``query`` is blank, or an option is impossible.
        """
        return self.search_many(
            [query],
            candidates=candidates,
            filters=filters,
            top_k=top_k,
            min_score=min_score,
            min_probability=min_probability,
            evidence=evidence,
            fusion=fusion,
            deduplicate=deduplicate,
            retracted=retracted,
            boosts=boosts,
            timeout=timeout,
        )[0]

    @telemetry.staged("search")
    def search_many(
        self,
        queries: Sequence[str],
        *,
        candidates: int = 100,
        filters: Filter | None = None,
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
        """Answer many queries, in order; queries are embedded, and pairs scored, in shared batches.

        Takes the options of :meth:`search`.

        :param queries: the questions.
        :param show_progress: show a progress bar of the reranking on stderr.
        :raises TypeError: if ``queries`` is one string, or holds something that is no string.
        :raises ValueError: if a query is blank, or an option is impossible.
        """
        candidates = whole_number("candidates", candidates)
        start = time.perf_counter()
        telemetry.note(queries=len(queries), candidates=candidates, filtered=filters is not None)
        with telemetry.stage("first_stage", kind=self.first_stage):
            found = self.index.search_many(queries, candidates, filters=filters, first_stage=self.first_stage)
            telemetry.note(found=sum(map(len, found)))
        seconds = time.perf_counter() - start
        rankings = self.reranker.rank_many(
            zip(queries, found, strict=True),
            top_k=top_k,
            min_score=min_score,
            min_probability=min_probability,
            evidence=evidence,
            fusion=fusion,  # the candidates say what their scores are
            deduplicate=deduplicate,
            retracted=retracted,
            boosts=boosts,
            timeout=timeout,
            show_progress=show_progress,
        )
        return [
            replace(
                ranking,
                timings={"first_stage": seconds, **ranking.timings},
                missing_shards=getattr(candidates_of, "missing_shards", ()),  # a sharded index says so
            )
            for ranking, candidates_of in zip(rankings, found, strict=True)
        ]

    def fusion_weight(self, fusion: float | str | None = "stored") -> float | None:
        """Return the weight with which the first stage's scores enter the order.

        :param fusion: as :meth:`search` takes it.
        :returns: the weight; ``None`` where the order is by logit.
        :raises ValueError: if ``fusion`` is neither a number of at least 0, nor ``"stored"``, nor ``None``.
        """
        fusion = check_fusion(fusion)
        if fusion != "stored":
            return fusion
        scores = self.index.scores_of(self.first_stage)
        return None if scores is None else self.reranker.stored_fusion(scores)
