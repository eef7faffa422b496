"""``biorerank demo``: both stages at work on a small collection that comes with the package."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import biorerank_plugins
from biorerank_plugins.cli.before_after import before_after_document
from biorerank_plugins.cli.demo_view import LEGEND, Means, Shown, means_of, means_table, render, telling
from biorerank_plugins.cli.loading import BothModels, Models
from biorerank_plugins.cli.one_line_errors import command
from biorerank_plugins.cli.option_groups import check_question, option, path_option
from biorerank_plugins.cli.output import Output, rich_table

if TYPE_CHECKING:
    from biorerank_plugins.evaluation import SystemsReport
    from biorerank_plugins.evaluation.metrics import MeasuredRun, Qrels
    from biorerank_plugins.passages import Passage
    from biorerank_plugins.readers import Query
    from biorerank_plugins.two_stage import TwoStageSearch

_HERE = Path(biorerank_plugins.__file__).parent / "demo"
_CANDIDATES = 50  # of some 270 passages: enough that nothing relevant is missed, and quick on a laptop


@command
def demo(
    *,
    question: Annotated[str | None, typer.Argument(help="Your question, instead of the sample questions.")] = None,
    queries_shown: Annotated[int, option("Sample questions to show.", "--queries-shown", "-n", min=0)] = 3,
    collection: Annotated[Path | None, path_option("Another collection, in BEIR's layout.", metavar="FOLDER")] = None,
    models: BothModels,
    output: Output,
) -> None:
    """See both stages at work on biomedical questions, offline.

    Indexes a small collection of passages that comes with the package, shows what the first stage finds beside what
    the reranker makes of it, and measures both on all its questions. With a question of yours, answers that instead.

    Example: biorerank demo "Which gene is mutated in cystic fibrosis?"
    """
    if question is not None:
        question = check_question(question, "QUESTION")
    output.note("Loading two small models and the demo passages …")
    from biorerank_plugins.readers import Query, find_beir, read_passages, read_qrels, read_queries

    parts = find_beir(collection or _HERE)
    passages, queries, qrels = list(read_passages(parts.corpus)), read_queries(parts.queries), read_qrels(parts.qrels)
    report = means = None
    with ExitStack() as stack:
        search = _two_stages(stack, passages, models, output)
        if question is None:
            report = _measure(search, queries, qrels, output)
            means = means_of(report, _vector_run(search, queries, qrels, report))
            asked = telling(report, queries, queries_shown)
        else:  # one of the collection's own keeps its judgements
            same = [query for query in queries if query.text.casefold() == question.casefold()]
            asked = same[:1] or [Query("yours", question)]
        shown = [_look_up(search, query, qrels.get(query.id)) for query in asked]
    _show(output, shown, report, means)
    output.document(
        {
            "passages": len(passages),
            "questions": [one.to_dict() for one in shown],
            "evaluation": None if report is None else before_after_document(report, per_query=False),
            "systems": means,
        }
    )


def _two_stages(stack: ExitStack, passages: Sequence[Passage], models: Models, output: Output) -> TwoStageSearch:
    from biorerank_plugins.first_stage import PassageIndex
    from biorerank_plugins.two_stage import TwoStageSearch

    encoder = models.load_encoder()
    reranker = stack.enter_context(models.load_reranker())
    start = time.perf_counter()
    index = PassageIndex.build(passages, encoder=encoder, show_progress=output.show_progress)
    output.note(f"Indexed {len(index)} passages in {time.perf_counter() - start:.1f} s.")
    return TwoStageSearch(stack.enter_context(index), reranker)


def _measure(search: TwoStageSearch, queries: Sequence[Query], qrels: Qrels, output: Output) -> SystemsReport:
    from biorerank_plugins.evaluation import evaluate_systems

    output.note(f"Measuring both stages on all {len(queries)} questions …")
    return evaluate_systems(
        search.index,
        queries,
        qrels,
        rerankers=search.reranker,
        candidates=_CANDIDATES,
        measures=("nDCG@10", "RR@10"),
        show_progress=output.show_progress,
    )


def _vector_run(search: TwoStageSearch, queries: Sequence[Query], qrels: Qrels, report: SystemsReport) -> MeasuredRun:
    """Measure what most people have: the bi-encoder alone, which needs no reranking."""
    from biorerank_plugins.evaluation import measure_run, run_from_order

    asked = [query for query in queries if query.id in report.queries]
    lists = search.index.search_many([query.text for query in asked], _CANDIDATES, first_stage="dense")
    order = {query.id: [one.passage.id for one in found] for query, found in zip(asked, lists, strict=True)}
    return measure_run(run_from_order(order), qrels, report.measures)


def _look_up(search: TwoStageSearch, query: Query, grades: Mapping[str, int] | None) -> Shown:
    """Search, and measure the first stage's order and the reranker's where the question is judged."""
    from biorerank_plugins.evaluation import measure_run, run_from_order

    ranking = search.search(query.text, candidates=_CANDIDATES)
    if grades is None:
        return Shown(ranking)
    orders = (sorted(ranking, key=lambda ranked: ranked.input_index), ranking)
    runs = [run_from_order({"q": [ranked.passage.id for ranked in order]}) for order in orders]
    before, after = (measure_run(run, {"q": grades}, ["nDCG@10"]).means["nDCG@10"] for run in runs)
    return Shown(ranking, grades, (before, after))


def _show(output: Output, shown: Sequence[Shown], report: SystemsReport | None, means: Means | None) -> None:
    if output.json:
        return
    console = output.console()
    if shown:
        console.print("", LEGEND, "", sep="\n")
    for one in shown:
        console.print(render(one))
    if report is not None and means is not None:
        console.print(f"All {len(report.queries)} questions, measured against their judgements:", style="bold")
        console.print(rich_table(*means_table(means)))
        output.note('Ask your own: biorerank demo "…"   Index your own: biorerank index --help')
