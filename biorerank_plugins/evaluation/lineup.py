"""The systems of an evaluation, and how each makes its lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from biorerank_plugins.evaluation.bioasq.gold import BioASQGold
from biorerank_plugins.evaluation.bioasq.measured import Find, measure_bioasq
from biorerank_plugins.evaluation.lists import FoundLists, Latency, Orderer, Scores
from biorerank_plugins.evaluation.metrics import MeasuredRun, Qrels, Run, measure_run, run_from_order
from biorerank_plugins.evaluation.results import SystemResult
from biorerank_plugins.evaluation.significance import interval
from biorerank_plugins.readers import Query

Order: TypeAlias = Mapping[str, Sequence[str]]
Weights: TypeAlias = Mapping[tuple[str, str], float | None]


@dataclass(frozen=True, slots=True)
class System:
    """A system: a run file, if it has no first stage.

    :param name: its name in the report.
    :param first_stage: name of the first stage.
    :param reranker: name of the reranker, if any.
    :param fusion: weight of the first stage's scores, if they enter the order.
    """

    name: str
    first_stage: str | None = None
    reranker: str | None = None
    fusion: float | None = None


def line_up(stages: Sequence[str], weights: Weights, runs: Iterable[str]) -> list[System]:
    """Return all systems, in the order of the report.

    :param weights: for each (first stage, reranker) the weight of the first stage's scores, ``None`` for none.
    """
    systems: list[System] = []
    for stage in stages:
        systems.append(System(stage, stage))
        for (one, reranker), weight in weights.items():
            if one == stage:
                name = f"{stage}+{reranker}"
                systems.append(System(name, stage, reranker))
                if weight:  # 0 orders by the logit alone, as no weight does
                    systems.append(System(f"{name}+fusion", stage, reranker, weight))
    return [*systems, *map(System, runs)]


@dataclass(frozen=True, slots=True)
class Lists:
    """What the systems' lists are made of.

    :param asked: the questions that were searched for.
    :param found: what each first stage found.
    :param scores: what each reranker gave.
    :param runs: runs by name.
    """

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


def measure_system(
    system: System,
    lists: Lists,
    qrels: Qrels,
    measures: Sequence[str],
    depths: Sequence[int],
    gold: BioASQGold | None,
    find: Find,
) -> SystemResult:
    """Measure the lists of a system.

    :param qrels: judgements; every question with some counts.
    :param measures: names that ``ir_measures`` knows; the first one is measured at every depth.
    """
    order = lists.order(system)
    measured = measure_run(run_from_order(order), qrels, measures)
    if gold is not None:
        more = measure_bioasq(order, gold, find, qrels)
        measured = MeasuredRun({**measured.means, **more.means}, {**measured.per_query, **more.per_query})
    found = None if system.first_stage is None else lists.found[system.first_stage]
    scores = None if system.reranker is None else lists.scores[system.reranker]
    first = measures[0]
    return SystemResult(
        name=system.name,
        first_stage=system.first_stage,
        reranker=system.reranker,
        fusion=system.fusion,
        order=order,
        measured=measured,
        intervals={name: interval(list(values.values())) for name, values in measured.per_query.items()},
        depth={
            n: measure_run(run_from_order(lists.order(system, n)), qrels, [first]).means[first]
            for n in (depths if found else ())
        },
        first_stage_latency=None if found is None else Latency.of(found.seconds.values()),
        rerank_latency=None if found is None or scores is None else Latency.of(scores.seconds_for(found.lists)),
        pairs_per_second=None if scores is None else scores.pairs_per_second,
    )
