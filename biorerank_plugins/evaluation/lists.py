"""The systems of an evaluation, and the list of each: every list is searched once, every pair is scored once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from biorerank_plugins._common.progress import progress_bar
from biorerank_plugins.evaluation.metrics import Run
from biorerank_plugins.first_stage.arguments import FirstStage
from biorerank_plugins.first_stage.protocol import SearchableIndex
from biorerank_plugins.passages import Candidate, Passage
from biorerank_plugins.readers import Query
from biorerank_plugins.reranking.options import Fusion
from biorerank_plugins.reranking.reranker import BioReranker
from biorerank_plugins.two_stage import TwoStageSearch

Order: TypeAlias = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class System:
    """A first stage, with or without a reranker and a weight of its own scores; a run file, if there is none."""

    name: str
    first_stage: str | None
    reranker: str | None
    fusion: float | None


def line_up(
    index: SearchableIndex | None,
    stages: Sequence[FirstStage],
    rerankers: Mapping[str, BioReranker],
    fusion: Fusion,
    runs: Iterable[str],
) -> list[System]:
    """Return all systems, in the order of the report."""
    systems: list[System] = []
    for stage in stages:
        assert index is not None  # the stages are the index's
        systems.append(System(stage, stage, None, None))
        for reranker, model in rerankers.items():
            name = f"{stage}+{reranker}"
            systems.append(System(name, stage, reranker, None))
            # What a search by these two would take; it also checks a given weight.
            weight = TwoStageSearch(index, model, first_stage=stage).fusion_weight(fusion)
            if weight:  # 0 orders by the logit alone, as no weight does
                systems.append(System(f"{name}+fusion", stage, reranker, weight))
    return [*systems, *(System(name, None, None, None) for name in runs)]


@dataclass(frozen=True, slots=True)
class Latency:
    """How long one question takes, alone; half of the questions, and 95 of 100, take at most what is said."""

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
    """What one first stage found for each question, best first, and what the search took."""

    lists: dict[str, list[Candidate]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Scores:
    """What one model gave to the candidates of all first stages: for each question logits by id, and what it took."""

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
        """Return the ids of candidates, best first; ``fusion`` is as :meth:`BioReranker.rank` takes it."""
        self._known = logits
        return [ranked.passage.id for ranked in self._reranker.rank(query, candidates, fusion=fusion)]


@dataclass(frozen=True, slots=True)
class Lists:
    """What the systems' lists are made of: what first stages found, what rerankers gave, and runs, all by name."""

    asked: Sequence[Query]
    found: Mapping[str, FoundLists]
    scores: Mapping[str, Scores]
    runs: Mapping[str, Run]
    _orderer: Orderer = field(default_factory=Orderer)

    def order(self, system: System, depth: int | None = None) -> Order:
        """Return a system's lists: of the first stage's best so many candidates, or of all."""
        if system.first_stage is None:  # equal scores are ordered as trec_eval does, by falling id
            return {
                name: [id_ for _, id_ in sorted(((score, id_) for id_, score in run.items()), reverse=True)]
                for name, run in self.runs[system.name].items()
            }
        lists = self.found[system.first_stage].lists
        if system.reranker is None:
            return {name: [c.passage.id for c in listed[:depth]] for name, listed in lists.items()}
        logits = self.scores[system.reranker].logits
        return {
            query.id: self._orderer.order(query.text, lists[query.id][:depth], logits[query.id], system.fusion)
            for query in self.asked
        }
