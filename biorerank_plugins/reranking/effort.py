"""No more reading than it takes: from the first stage's best candidate on, until no other one is likely to lead.

The rule is that of the threshold algorithm (Fagin, Lotem and Naor, 2003), with a quantile of the logits read so far as
what an unread candidate may bring beside what the first stage adds. It holds behind good first stages, and not behind
BM25, whose best passages may all be beside the point: it is used where the model stores a quantile.
``benchmarks/quality/effort.py`` measures what it spares, and what it costs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from biorerank_plugins.reranking.first_stage_prior import Prior
from biorerank_plugins.reranking.options import RankOptions
from biorerank_plugins.reranking.order import Scored, boosts_of
from biorerank_plugins.reranking.request import RankRequest
from biorerank_plugins.scoring.scores import PairScores

_STEP = 16  # candidates read at once: a batch of short passages


class Reading:
    """What of one request is read so far.

    :param quantile: of the logits read so far; no unread candidate is expected to have a higher one. ``None`` where the
        model stores none for this first stage: all is read.
    """

    def __init__(self, request: RankRequest, prior: Prior, options: RankOptions, quantile: float | None) -> None:
        self.request = request
        self._prior = prior
        self._quantile = quantile
        self._read: list[int] = []
        self._parts: list[Scored] = []
        self._leading = options.top_k if options.effort == "auto" and quantile is not None else None
        if self._leading is not None:
            assert prior.added is not None  # a quantile belongs to the weight of a first stage's scores
            self._added = np.array(prior.added) + np.array(boosts_of(request, options))
            self._texts = [(one.passage.title, one.passage.text) for one in request.scored()]
            self._equal: dict[tuple[str | None, str], list[int]] = defaultdict(list)
            for place, text in enumerate(self._texts):
                self._equal[text].append(place)
            self._unread = [int(place) for place in np.argsort(-self._added, kind="stable")]  # best first

    def wanted(self) -> list[int]:
        """Return the places, among the candidates that are to be scored, of those to be read next; none at the end."""
        if self._leading is None or self._quantile is None:
            return [] if self._read else list(range(len(self.request.kept)))
        best = self._unread[: _STEP if self._read else max(2 * self._leading, _STEP)]
        if self._read and best:
            logits = np.concatenate([part.scores.logits for part in self._parts])
            last = np.sort(self._added[self._read] + logits)[-self._leading]
            most = np.quantile(logits, self._quantile)
            best = [place for place in best if self._added[place] + most > last]
        # Equal passages are read in one batch: their logits are the same then.
        return sorted({equal for place in best for equal in self._equal[self._texts[place]]})

    def add(self, places: Sequence[int], scored: Scored) -> None:
        """Take what the model says of the candidates that were :meth:`wanted`, in the same order."""
        self._read += places
        self._parts.append(scored)
        if self._leading is not None:
            read = set(places)
            self._unread = [place for place in self._unread if place not in read]

    def result(self) -> tuple[RankRequest, Prior, Scored | None]:
        """Return the request without what was not read, and what is known of the rest, in the order of its input."""
        if self._leading is None or not self._parts:
            return self.request, self._prior, self._parts[0] if self._parts else None
        order = sorted(range(len(self._read)), key=self._read.__getitem__)
        places = [self._read[n] for n in order]
        fields = ("logits", "truncated", "query_truncated")
        scores = PairScores(*(np.concatenate([getattr(part.scores, name) for part in self._parts]) for name in fields))
        texts = [text for part in self._parts for text in part.texts]
        best = [window for part in self._parts for window in part.best]
        scored = Scored(scores[order], [texts[n] for n in order], [best[n] for n in order], self._parts[0].activate)
        assert self._prior.added is not None
        prior = Prior([self._prior.added[place] for place in places], self._prior.stored)
        return self.request.only(places), prior, scored
