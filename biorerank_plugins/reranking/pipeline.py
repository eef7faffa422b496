"""The way of a ranking: requests ► texts and windows ► logits ► order ► evidence."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence, Sized
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from biorerank_plugins import telemetry
from biorerank_plugins.articles.metadata import MetadataKeys
from biorerank_plugins.models.stored import StoredValues
from biorerank_plugins.passages import PassageLike, Ranking
from biorerank_plugins.reranking.effort import Reading
from biorerank_plugins.reranking.evidence import with_evidence
from biorerank_plugins.reranking.first_stage_prior import Prior, choose_prior
from biorerank_plugins.reranking.model_share import ModelShare
from biorerank_plugins.reranking.options import Fusion, RankOptions
from biorerank_plugins.reranking.order import Scored, order_candidates, refuse_non_finite
from biorerank_plugins.reranking.passage_windows import PassageReader
from biorerank_plugins.reranking.request import RankRequest
from biorerank_plugins.runtime.calls import Call, Calls, watched
from biorerank_plugins.scoring.scores import PairScores, Scorer, fold
from biorerank_plugins.text.templates import wellformed

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class RankPipeline:
    """What one reranker does with a call; it keeps nothing of it."""

    share: ModelShare
    reader: PassageReader
    stored: StoredValues
    query_prefix: str
    keys: MetadataKeys
    calls: Calls

    @telemetry.staged("rank")
    def rank(
        self,
        given: Iterable[tuple[str, Iterable[PassageLike]]],
        options: RankOptions,
        show_progress: bool,
        call: Call,
    ) -> list[Ranking]:
        """Return one ranking a request; see :meth:`~biorerank_plugins.BioReranker.rank_many`."""
        requests = [RankRequest.of(query, passages, options, self.keys) for query, passages in given]
        wanted = sum(len(request.kept) for request in requests)
        telemetry.note(queries=len(requests), passages=wanted)
        if not wanted:  # nothing to score is no reason to load a model
            return [
                order_candidates(request, None, options, Prior(), self.stored, {"rerank": 0.0}) for request in requests
            ]
        self.calls.take(call, wanted)
        timings: dict[str, float] = {}
        cosines = self._cosines(requests, options.fusion, timings, call)
        started = time.perf_counter()
        read = self._read(requests, cosines, options, show_progress, call)
        timings["rerank"] = time.perf_counter() - started
        rankings = [
            order_candidates(request, scored, options, prior, self.stored, timings) for request, prior, scored in read
        ]
        return self._with_evidence(rankings, options.evidence, call) if options.evidence else rankings

    def scores(self, pairs: Sequence[Pair], call: Call, show_progress: bool = False) -> PairScores:
        """Return the scores of (query, text) pairs, with prefixes and without a template."""
        texts = [(self._query_text(query), self.reader.prefix + wellformed(text)) for query, text in pairs]
        return self._score(self.share.open(call), texts, call, show_progress)

    def _query_text(self, query: str) -> str:
        return self.query_prefix + wellformed(query)

    def _read(
        self,
        requests: Sequence[RankRequest],
        cosines: Sequence[Sequence[float] | None],
        options: RankOptions,
        show_progress: bool,
        call: Call,
    ) -> list[tuple[RankRequest, Prior, Scored | None]]:
        """Let the model read what may lead: with full effort everything, at once."""
        readings = []
        for request, own in zip(requests, cosines, strict=True):
            prior = choose_prior(options.fusion, request.scored(), self.stored, own)
            quantile = None
            if prior.stored is not None and own is None:  # behind a second reader it was not measured
                quantile = self.stored.fusion[prior.stored].quantile
            readings.append(Reading(request, prior, options, quantile))
        while any(wanted := [reading.wanted() for reading in readings]):
            parts = [reading.request.only(places) for reading, places in zip(readings, wanted, strict=True)]
            found = self._scored(parts, show_progress, call)
            for reading, places, scored in zip(readings, wanted, found, strict=True):
                if places:
                    reading.add(places, scored)
        return [reading.result() for reading in readings]

    def _scored(self, requests: Sequence[RankRequest], show_progress: bool, call: Call) -> list[Scored]:
        """Return what the model says of the candidates of each request; their pairs share batches."""
        scorer = self.share.open(call)
        queries = [self._query_text(request.query) for request in requests]
        items = [
            (query, candidate.passage)
            for query, request in zip(queries, requests, strict=True)
            for candidate in request.scored()
        ]
        with telemetry.stage("windows"):
            texts = self.reader.read(items, scorer, call.check)
        pairs = [(query, text) for (query, _), own in zip(items, texts, strict=True) for text in own.texts]
        every = self._score(scorer, pairs, call, show_progress)
        scores, best = fold(every, [len(own.texts) for own in texts], self.reader.windows.aggregation)
        cut = int(scores.truncated.sum())
        telemetry.count("truncations", cut, truncated="passage")
        telemetry.count("truncations", int(scores.query_truncated.sum()), truncated="query")
        telemetry.note(model=scorer.name, truncated=cut)
        found, first = [], 0
        for request in requests:
            part = slice(first, first + len(request.kept))
            found.append(Scored(scores[part], texts[part], best[part], scorer.activate))
            first = part.stop
        return found

    def _cosines(
        self, requests: Sequence[RankRequest], fusion: Fusion, timings: dict[str, float], call: Call
    ) -> Sequence[Sequence[float] | None]:
        """Return what the second reader says of the candidates of each request, where it is asked for."""
        if fusion != "second-reader":
            return [None] * len(requests)
        reader = self.stored.second_reader
        if reader is None:
            raise ValueError("fusion='second-reader' is not possible: this model stores no second reader.")
        started = time.perf_counter()
        found = self.share.second_reader.cosines(reader.encoder, requests, call)
        timings["second_reader"] = time.perf_counter() - started
        return found

    @telemetry.staged("evidence")
    def _with_evidence(self, rankings: list[Ranking], count: int, call: Call) -> list[Ranking]:
        started = time.perf_counter()

        def logits(pairs: list[Pair]) -> NDArray[np.float32]:
            found = self.scores(pairs, call).logits
            refuse_non_finite([f"sentence {text[:40]!r}" for _, text in pairs], found)
            return found

        activate = self.share.open(call).activate
        evidence, calibration = self.stored.evidence, self.stored.calibration
        answered = with_evidence(rankings, count, logits, activate, evidence, calibration)
        seconds = time.perf_counter() - started
        return [replace(ranking, timings={**ranking.timings, "evidence": seconds}) for ranking in answered]

    def _score(self, scorer: Scorer, pairs: list[Pair], call: Call, show_progress: bool) -> PairScores:
        cache = self.share.cache
        # Equal pairs are scored once: rows of a batch differ in the last bits, and ties would not keep their order.
        places = {pair: place for place, pair in enumerate(dict.fromkeys(pairs))}
        with watched(call, len(places), show_progress) as watch:
            if cache is None:
                scores = scorer.score(list(places), watch)
            else:
                scores = cache.scores(self.share.model_hash, list(places), lambda new: scorer.score(new, watch))
        return scores[[places[pair] for pair in pairs]]


def count_passages(requests: Iterable[tuple[str, Iterable[PassageLike]]]) -> int | None:
    """Return the number of passages; ``None`` if only reading them would tell, which may take long."""
    if not isinstance(requests, Sequence):
        return None
    passages = [request[1] for request in requests]
    return sum(map(len, passages)) if all(isinstance(given, Sized) for given in passages) else None
