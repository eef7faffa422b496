"""Several systems side by side: first stages, rerankers over them, and run files, on the same judged questions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache

from biorerank_plugins._common.checks import whole_number
from biorerank_plugins.evaluation.bioasq.gold import BioASQGold
from biorerank_plugins.evaluation.bioasq.measured import Find, measure_bioasq
from biorerank_plugins.evaluation.lists import Latency, Lists, System, line_up, score_pairs, search_all
from biorerank_plugins.evaluation.metrics import (
    DEFAULT_MEASURES,
    MeasuredRun,
    Qrels,
    Run,
    judged_queries,
    measure_run,
    run_from_order,
)
from biorerank_plugins.evaluation.results import SystemResult, SystemsReport, largest_changes
from biorerank_plugins.evaluation.significance import Comparison, compare, corrected, interval
from biorerank_plugins.first_stage.arguments import FirstStage, check_first_stage
from biorerank_plugins.first_stage.protocol import SearchableIndex
from biorerank_plugins.passages import Passage
from biorerank_plugins.readers import Query
from biorerank_plugins.reranking.options import Fusion
from biorerank_plugins.reranking.reranker import BioReranker

_DEPTHS = (5, 10, 20, 50, 100)
_ONLY = "reranker"  # name of a reranker that was given without one


def evaluate_systems(
    index: SearchableIndex | None,
    queries: Iterable[Query],
    qrels: Qrels,
    *,
    first_stages: Sequence[str] = (),
    rerankers: Mapping[str, BioReranker] | BioReranker | None = None,
    runs: Mapping[str, Run] | None = None,
    candidates: int = 100,
    fusion: Fusion = "stored",
    baseline: str | None = None,
    measures: Iterable[str] = DEFAULT_MEASURES,
    gold: BioASQGold | None = None,
    show_progress: bool = False,
) -> SystemsReport:
    """Measure any number of systems on the same judged questions.

    The systems are each first stage (``"dense"``), each reranker over each first stage by its logit alone
    (``"dense+NAME"``) and with the first stage's scores (``"dense+NAME+fusion"``), and each run. Every list is searched
    once, and every pair scored once by each reranker. Means are over all judged questions; one without text or without
    results counts 0.

    :param index: the passages; ``None`` if only runs are measured.
    :param queries: the questions; those without judgements are not run.
    :param qrels: judgements, ``{query id: {passage id: grade}}``.
    :param first_stages: any of ``"dense"``, ``"lexical"``, ``"hybrid"``; what the index offers by default if empty.
    :param rerankers: rerankers by the name that the report calls them by, or one, which is called ``"reranker"``; they
        stay open.
    :param runs: runs by name; equal scores are ordered as trec_eval does, by falling id.
    :param candidates: how many passages each first stage hands over.
    :param fusion: weight of the first stage's scores in the ``+fusion`` systems; ``"stored"``: what each model stores,
        if anything; ``None``: no such systems.
    :param baseline: the system that the others are compared with; the first one if ``None``.
    :param measures: names that ``ir_measures`` knows; the first is that of curves and changes.
    :param gold: BioASQ's gold answers, for its own measures.
    :param show_progress: show progress bars on stderr.
    :raises ValueError: if two systems have one name, the baseline is none of them, there is nothing to measure, a
        measure or first stage is unknown, or questions and judgements do not belong together.
    :raises PassageIndexError: if a first stage needs a lexical part that the index lacks.

    >>> report = evaluate_systems(index, queries, qrels, rerankers=reranker)             # doctest: +SKIP
    >>> report.comparisons["hybrid+reranker+fusion"]["nDCG@10"].delta                    # doctest: +SKIP
    0.064
    >>> report = evaluate_systems(index, queries, qrels, rerankers={"mine": reranker})   # doctest: +SKIP
    >>> report.comparisons["hybrid+mine"]["nDCG@10"].holm["p_value"]                     # doctest: +SKIP
    0.0003
    """
    names = list(dict.fromkeys(measures))
    if not names:
        raise ValueError("Give at least one measure, for example nDCG@10.")
    measure_run({}, qrels, names)  # a wrong name or empty judgements show before an hour of scoring, not after
    candidates = whole_number("candidates", candidates)
    rerankers = {_ONLY: rerankers} if isinstance(rerankers, BioReranker) else dict(rerankers or {})
    runs = dict(runs or {})
    judged = {query_id: grades for query_id, grades in qrels.items() if grades}
    known = list(queries)
    stages = _check_stages(index, first_stages, rerankers, gold)
    asked = judged_queries(known, set(judged)) if stages else []
    systems = line_up(index, stages, rerankers, fusion, runs)
    baseline = _check_names([one.name for one in systems], baseline)

    lists = _find_and_score(index, asked, stages, rerankers, runs, candidates, show_progress)
    find = _finder(index, lists)
    depths = [*(depth for depth in _DEPTHS if depth < candidates), candidates]
    results = {one.name: _measure(one, lists, judged, names, depths, gold, find) for one in systems}
    texts = {query.id: query.text for query in known}
    texts = {query_id: texts.get(query_id, "") for query_id in judged}
    return SystemsReport(
        queries=texts,
        candidates=candidates,
        measures=list(results[baseline].measured.per_query),
        systems=results,
        baseline=baseline,
        comparisons=_compare(results, baseline),
        changes={
            name: largest_changes(results[baseline], one, names[0], texts, judged, find)
            for name, one in results.items()
            if name != baseline
        },
        notes=list(_notes(judged, texts, lists)),
        gold_method=None if gold is None else gold.method,
    )


def _check_stages(
    index: SearchableIndex | None,
    first_stages: Sequence[str],
    rerankers: Mapping[str, BioReranker],
    gold: BioASQGold | None,
) -> list[FirstStage]:
    if isinstance(first_stages, str):
        raise TypeError(f"first_stages must be a list of names, got the string {first_stages!r}. Put it in a list.")
    if index is not None:
        wanted: Sequence[str | None] = first_stages or [None]  # what the index offers by default
        return [check_first_stage(stage, has_lexical=index.lexical) for stage in wanted]
    if first_stages or rerankers or gold is not None:
        raise ValueError(
            "First stages, rerankers and BioASQ's measures need an index with passages; give one, or runs only."
        )
    return []


def _check_names(names: Sequence[str], baseline: str | None) -> str:
    if not names:
        raise ValueError("There is nothing to measure: give an index, or runs.")
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise ValueError(f"Two systems have the name {twice!r}; give one of them another name.")
    if baseline is not None and baseline not in names:
        raise ValueError(f"The baseline {baseline!r} is none of the systems: {', '.join(names)}.")
    return names[0] if baseline is None else baseline


def _find_and_score(
    index: SearchableIndex | None,
    asked: Sequence[Query],
    stages: Sequence[FirstStage],
    rerankers: Mapping[str, BioReranker],
    runs: Mapping[str, Run],
    candidates: int,
    show_progress: bool,
) -> Lists:
    if index is None:
        return Lists(asked, {}, {}, runs)
    for reranker in rerankers.values():
        reranker.warm_up()  # a model that cannot be loaded shows before the first search
    found = search_all(index, asked, stages, candidates, show_progress=show_progress)
    scores = {
        name: score_pairs(reranker, asked, found.values(), name=name, show_progress=show_progress)
        for name, reranker in rerankers.items()
    }
    return Lists(asked, found, scores, runs)


def _finder(index: SearchableIndex | None, lists: Lists) -> Find:
    """Return what gives the passage of an id: from the lists, else (runs may hold others) from the index."""
    known = {c.passage.id: c.passage for one in lists.found.values() for listed in one.lists.values() for c in listed}

    @cache
    def find(id_: str) -> Passage | None:
        return known.get(id_) or (None if index is None else index.get(id_))

    return find


def _measure(
    system: System,
    lists: Lists,
    qrels: Qrels,
    measures: Sequence[str],
    depths: Sequence[int],
    gold: BioASQGold | None,
    find: Find,
) -> SystemResult:
    """Measure the lists of a system; every question with judgements counts."""
    order = lists.order(system)
    measured = measure_run(run_from_order(order), qrels, measures)
    if gold is not None:
        more = measure_bioasq(order, gold, find, qrels)
        measured = MeasuredRun({**measured.means, **more.means}, {**measured.per_query, **more.per_query})
    found = None if system.first_stage is None else lists.found[system.first_stage]
    scores = None if system.reranker is None else lists.scores[system.reranker]
    first = measures[0]
    return SystemResult(
        **asdict(system),
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


def _compare(results: Mapping[str, SystemResult], baseline: str) -> dict[str, dict[str, Comparison]]:
    others = [name for name in results if name != baseline]
    comparisons: dict[str, dict[str, Comparison]] = {name: {} for name in others}
    for measure, before in results[baseline].measured.per_query.items():
        by_name = {name: compare(before, results[name].measured.per_query[measure]) for name in others}
        for name, comparison in (corrected(by_name) if by_name else {}).items():
            comparisons[name][measure] = comparison
    return comparisons


def _notes(qrels: Qrels, texts: Mapping[str, str], lists: Lists) -> Iterator[str]:
    if lists.found and (unasked := sum(not text for text in texts.values())):
        yield f"{unasked} judged questions have no text among the queries and count as 0."
    for name, found in lists.found.items():
        if not any(c.passage.id in qrels[query_id] for query_id, listed in found.lists.items() for c in listed):
            yield f"No passage that {name} found is judged: do the passages and the judgements belong together?"
    for name, run in lists.runs.items():
        if unknown := len(run.keys() - qrels.keys()):
            yield f"{unknown} of {len(run)} questions of the run {name!r} have no judgements and are left out."
        if lacking := len(qrels.keys() - run.keys()):
            yield f"The run {name!r} has no results for {lacking} of {len(qrels)} judged questions, which count as 0."
