"""The systems of an evaluation, and how each makes its lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from biorerank_plugins.evaluation.bioasq.gold import BioASQGold
from biorerank_plugins.evaluation.bioasq.measured import measure_bioasq
from biorerank_plugins.evaluation.lists import FoundLists, Latency, Orderer, Scores
from biorerank_plugins.evaluation.metrics import MeasuredRun, Qrels, Run, measure_run, run_from_order
from biorerank_plugins.evaluation.results import SystemResult
from biorerank_plugins.evaluation.significance import interval

if TYPE_CHECKING:
    from biorerank_plugins.passages import Passage
    from biorerank_plugins.readers import Query

Order: TypeAlias = Mapping[str, Sequence[str]]
Weights: TypeAlias = Mapping[tuple[str, str], float | None]
Find: TypeAlias = Callable[[str], "Passage | None"]


@dataclass(frozen=True, slots=True)
class System:
    """A system that has found and scored what it needs.

    :param name: its name in the report.
    :param order: gives the lists it makes of so many candidates a question; ``None`` for all there are.
    :param first_stage: name of the first stage, ``None`` for a run file.
    :param reranker: name of the reranker, if any.
    :param fusion: weight of the first stage's scores, if they enter the order.
    :param found: what the first stage found.
    :param scores: what the reranker gave.
    """

    name: str
    order: Callable[[int | None], Order]
    first_stage: str | None = None
    reranker: str | None = None
    fusion: float | None = None
    found: FoundLists | None = None
    scores: Scores | None = None


def system_names(stages: Sequence[str], weights: Weights, runs: Mapping[str, Run]) -> list[str]:
    """Return the names of all systems, in the order of the report.

    :param stages: first stages.
    :param weights: for each (first stage, reranker) the weight of the first stage's scores, ``None`` for none.
    :param runs: runs by name.
    """
    names = []
    for stage in stages:
        names.append(stage)
        for one, reranker in weights:
            if one == stage:
                names += [name for name, _ in _kinds(stage, reranker, weights[stage, reranker])]
    return [*names, *runs]


def _kinds(stage: str, reranker: str, weight: float | None) -> list[tuple[str, float | None]]:
    name = f"{stage}+{reranker}"
    # A weight of 0 orders by the logit alone, as no weight does.
    return [(name, None), (f"{name}+fusion", weight)] if weight else [(name, None)]


def staged_systems(
    asked: Sequence[Query], found: Mapping[str, FoundLists], scores: Mapping[str, Scores], weights: Weights
) -> Iterator[System]:
    """Give each first stage, and each reranker over it.

    :param asked: the questions.
    :param found: what each first stage found.
    :param scores: what each reranker gave.
    :param weights: as in :func:`system_names`.
    """
    orderer = Orderer()
    for stage, lists in found.items():
        yield System(stage, _of_stage(lists), stage, found=lists)
        for reranker, scored in scores.items():
            for name, fusion in _kinds(stage, reranker, weights[stage, reranker]):
                order = _of_reranker(orderer, asked, lists, scored, fusion)
                yield System(name, order, stage, reranker, fusion, lists, scored)


def _of_stage(found: FoundLists) -> Callable[[int | None], Order]:
    return lambda depth: {name: [c.passage.id for c in listed[:depth]] for name, listed in found.lists.items()}


def _of_reranker(
    orderer: Orderer, asked: Sequence[Query], found: FoundLists, scores: Scores, fusion: float | None
) -> Callable[[int | None], Order]:
    return lambda depth: {
        query.id: orderer.order(query.text, found.lists[query.id][:depth], scores.logits[query.id], fusion)
        for query in asked
    }


def run_system(name: str, run: Run) -> System:
    """Give a run as a system; equal scores are ordered as trec_eval does, by falling id."""
    order = {
        query_id: [id_ for id_, _ in sorted(listed.items(), key=lambda item: (item[1], item[0]), reverse=True)]
        for query_id, listed in run.items()
    }
    return System(name, lambda depth: order)


def measure_system(
    system: System,
    qrels: Qrels,
    measures: Sequence[str],
    depths: Sequence[int],
    gold: BioASQGold | None,
    find: Find,
) -> SystemResult:
    """Measure the lists of a system.

    :param system: the system.
    :param qrels: judgements; every question with some counts.
    :param measures: names that ``ir_measures`` knows; the first one is measured at every depth.
    :param depths: numbers of candidates.
    :param gold: BioASQ's gold answers, if its measures are wanted.
    :param find: gives the passage of an id.
    """
    order = system.order(None)
    measured = measure_run(run_from_order(order), qrels, measures)
    if gold is not None:
        more = measure_bioasq(order, gold, find, qrels)
        measured = MeasuredRun({**measured.means, **more.means}, {**measured.per_query, **more.per_query})
    depth = {}
    if system.found is not None:
        first = measures[0]
        depth = {n: measure_run(run_from_order(system.order(n)), qrels, [first]).means[first] for n in depths}
    return SystemResult(
        name=system.name,
        first_stage=system.first_stage,
        reranker=system.reranker,
        fusion=system.fusion,
        order=order,
        measured=measured,
        intervals={name: interval(list(values.values())) for name, values in measured.per_query.items()},
        depth=depth,
        first_stage_latency=None if system.found is None else Latency.of(system.found.seconds.values()),
        rerank_latency=_rerank_latency(system),
        pairs_per_second=None if system.scores is None else system.scores.pairs_per_second,
    )


def _rerank_latency(system: System) -> Latency | None:
    if system.found is None or system.scores is None:
        return None
    return Latency.of(system.scores.seconds_for(system.found.lists))
