"""What several systems give for the same questions: each list is searched once, each pair is scored once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from biorerank_plugins._common.progress import progress_bar
from biorerank_plugins.first_stage.arguments import FirstStage
from biorerank_plugins.first_stage.protocol import SearchableIndex
from biorerank_plugins.passages import Candidate, Passage
from biorerank_plugins.readers import Query
from biorerank_plugins.reranking.reranker import BioReranker


@dataclass(frozen=True, slots=True)
class Latency:
    """How long one question takes, alone.

    :param median_ms: half of the questions take at most this, milliseconds.
    :param p95_ms: 95 of 100 questions take at most this, milliseconds.
    :param mean_ms: what a question takes on average, milliseconds.
    """

    median_ms: float
    p95_ms: float
    mean_ms: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Latency | None:
        """Return the latency of questions that took so many seconds each; ``None`` if there are none."""
        values = 1000 * np.fromiter(seconds, dtype=np.float64)
        if not len(values):
            return None
        median, p95 = np.quantile(values, [0.5, 0.95])
        return cls(float(median), float(p95), float(values.mean()))


@dataclass(slots=True)
class FoundLists:
    """What one first stage found.

    :param lists: for each question its candidates, best first.
    :param seconds: for each question what the search took.
    """

    lists: dict[str, list[Candidate]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Scores:
    """What one model gave to the candidates of all first stages.

    :param logits: for each question the logit of each passage, by id.
    :param seconds: for each question what scoring took.
    """

    logits: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def pairs_per_second(self) -> float:
        """Pairs scored in a second, 0 if there were none."""
        total = sum(self.seconds.values())
        return sum(map(len, self.logits.values())) / total if total > 0 else 0.0

    def seconds_for(self, lists: Mapping[str, Sequence[Candidate]]) -> list[float]:
        """Return what scoring one first stage's lists took: its share, by number, of the pairs scored together."""
        return [
            seconds * len(lists[query_id]) / len(self.logits[query_id])
            for query_id, seconds in self.seconds.items()
            if self.logits[query_id]
        ]


def search_all(
    index: SearchableIndex,
    queries: Sequence[Query],
    stages: Sequence[FirstStage],
    candidates: int,
    *,
    show_progress: bool,
) -> dict[str, FoundLists]:
    """Search every question by every first stage, one question at a time, as a user does: the times are honest."""
    found = {str(stage): FoundLists() for stage in stages}
    passages: dict[str, Passage] = {}  # one object a passage, however many lists it is in
    if queries and stages:
        for stage in stages:  # loads what the first search loads
            index.search_many([queries[0].text], 1, first_stage=stage)
    with progress_bar(show_progress, total=len(queries) * len(stages), desc="Searching", unit="list") as bar:
        for query in queries:
            for stage in stages:
                lists = found[stage]
                start = time.perf_counter()
                candidates_found = index.search_many([query.text], candidates, first_stage=stage)[0]
                lists.seconds[query.id] = time.perf_counter() - start
                lists.lists[query.id] = [
                    Candidate(passages.setdefault(c.passage.id, c.passage), c.score, c.rank) for c in candidates_found
                ]
                bar.update()
    return found


def score_pairs(
    reranker: BioReranker, queries: Sequence[Query], found: Iterable[FoundLists], *, name: str, show_progress: bool
) -> Scores:
    """Score what any first stage found, each pair once; the name is the progress bar's."""
    scores = Scores()
    all_lists = [lists.lists for lists in found]
    with progress_bar(show_progress, total=len(queries), desc=f"Reranking {name}", unit="query") as bar:
        for query in queries:
            union = {c.passage.id: c.passage for lists in all_lists for c in lists[query.id]}
            start = time.perf_counter()
            ranking = reranker.rank(query.text, list(union.values()))
            scores.seconds[query.id] = time.perf_counter() - start
            scores.logits[query.id] = {ranked.passage.id: ranked.logit for ranked in ranking}
            bar.update()
    return scores


class Orderer:
    """Puts candidates in the order that a reranker gives them, from logits that are known already.

    It goes through :meth:`BioReranker.rank`, so ties and fusion are those of a user's search.

    >>> orderer = Orderer()
    >>> found = [Candidate(Passage("a", "…"), 2.0, 1), Candidate(Passage("b", "…"), 1.0, 2)]
    >>> orderer.order("q", found, {"a": -1.0, "b": 3.0})
    ['b', 'a']
    """

    def __init__(self) -> None:
        self._known: Mapping[str, float] = {}
        # The text that this "model" reads of a passage is the passage's id.
        self._reranker = BioReranker(self, template=lambda passage: passage.id)

    def logits(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return the known logits of passages, named by their ids."""
        return [self._known[text] for text in texts]

    def order(
        self, query: str, candidates: Sequence[Candidate], logits: Mapping[str, float], fusion: float | None = None
    ) -> list[str]:
        """Return the ids of candidates, best first.

        :param fusion: as :meth:`BioReranker.rank` takes it.
        """
        self._known = logits
        return [ranked.passage.id for ranked in self._reranker.rank(query, candidates, fusion=fusion)]
