"""``biorerank demo``: both stages at work on a small collection that comes with the package."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import biorerank_plugins
from biorerank_plugins.cli.before_after import before_after_document
from biorerank_plugins.cli.demo_view import Means, Shown, legend, means_of, means_table, render, telling
from biorerank_plugins.cli.loading import BothModels, Models
from biorerank_plugins.cli.one_line_errors import command
from biorerank_plugins.cli.option_groups import check_question, option, path_option
from biorerank_plugins.cli.output import Output, rich_table

if TYPE_CHECKING:
    from biorerank_plugins.evaluation import SystemsReport
    from biorerank_plugins.evaluation.metrics import MeasuredRun
    from biorerank_plugins.passages import Passage, Ranking
    from biorerank_plugins.readers import Query
    from biorerank_plugins.two_stage import TwoStageSearch

_HERE = Path(biorerank_plugins.__file__).parent / "demo"
_CANDIDATES = 50  # of some 270 passages: enough that nothing relevant is missed, and quick on a laptop


@dataclass(frozen=True, slots=True)
class _Collection:
    passages: list[Passage]
    queries: list[Query]
    qrels: dict[str, dict[str, int]]

    def asked(self, question: str | None) -> list[Query]:
        """Return the question; one of the collection's own keeps its judgements."""
        from biorerank_plugins.readers import Query

        same = [query for query in self.queries if query.text.casefold() == str(question).casefold()]
        return same[:1] or [Query("yours", str(question))]


@command
def demo(
    *,
    question: Annotated[str | None, typer.Argument(help="Your question, instead of the sample questions.")] = None,
    queries_shown: Annotated[int, option("Sample questions to show.", "--queries-shown", "-n", min=0)] = 3,
    collection: Annotated[
        Path | None, path_option("Another collection, in BEIR's layout.", "--collection", metavar="FOLDER")
    ] = None,
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
    with ExitStack() as stack:
        loaded = _load(collection or _HERE)
        search = _two_stages(stack, loaded, models, output)
        report = _measure(search, loaded, output) if question is None else None
        questions = loaded.asked(question) if report is None else telling(report, loaded.queries, queries_shown)
        means = None if report is None else means_of(report, _vector_search(search, loaded, report))
        shown = [_look_up(search, loaded, query) for query in questions]
    _show(output, shown, report, means)
    if output.json:
        output.document(
            {
                "passages": len(loaded.passages),
                "questions": [item.to_dict() for item in shown],
                "evaluation": None if report is None else before_after_document(report, per_query=False),
                "systems": means,
            }
        )
    elif report is not None:
        output.note('Ask your own: biorerank demo "…"   Index your own: biorerank index --help')


def _load(folder: Path) -> _Collection:
    from biorerank_plugins.readers import find_beir, read_passages, read_qrels, read_queries

    parts = find_beir(folder)
    return _Collection(list(read_passages(parts.corpus)), read_queries(parts.queries), read_qrels(parts.qrels))


def _two_stages(stack: ExitStack, loaded: _Collection, models: Models, output: Output) -> TwoStageSearch:
    from biorerank_plugins.first_stage import PassageIndex
    from biorerank_plugins.two_stage import TwoStageSearch

    bi_encoder = models.load_encoder()
    reranker = stack.enter_context(models.load_reranker())
    start = time.perf_counter()
    index = stack.enter_context(
        PassageIndex.build(loaded.passages, encoder=bi_encoder, show_progress=output.show_progress)
    )
    output.note(f"Indexed {len(index)} passages in {time.perf_counter() - start:.1f} s.")
    return TwoStageSearch(index, reranker)


def _look_up(search: TwoStageSearch, loaded: _Collection, query: Query) -> Shown:
    ranking = search.search(query.text, candidates=_CANDIDATES)
    grades = loaded.qrels.get(query.id)
    return Shown(ranking, grades, None if grades is None else _ndcg(ranking, grades))


def _ndcg(ranking: Ranking, grades: dict[str, int]) -> tuple[float, float]:
    from biorerank_plugins.evaluation import measure_run, run_from_order

    orders = (sorted(ranking, key=lambda ranked: ranked.input_index), list(ranking))
    runs = [run_from_order({"q": [ranked.passage.id for ranked in order]}) for order in orders]
    before, after = (measure_run(run, {"q": grades}, ["nDCG@10"]).means["nDCG@10"] for run in runs)
    return before, after


def _show(output: Output, shown: list[Shown], report: SystemsReport | None, means: Means | None) -> None:
    if output.json:
        return
    console = output.console()
    if shown:
        console.print("", legend(), "", sep="\n")
    for one in shown:
        console.print(render(one))
    if report is not None and means is not None:
        console.print(f"All {len(report.queries)} questions, measured against their judgements:", style="bold")
        console.print(rich_table(*means_table(means)))


def _vector_search(search: TwoStageSearch, loaded: _Collection, report: SystemsReport) -> MeasuredRun:
    """Measure what most people have: the bi-encoder alone, which needs no reranking."""
    from biorerank_plugins.evaluation import measure_run, run_from_order

    asked = [query for query in loaded.queries if query.id in report.queries]
    lists = search.index.search_many([query.text for query in asked], _CANDIDATES, first_stage="dense")
    order = {query.id: [one.passage.id for one in found] for query, found in zip(asked, lists, strict=True)}
    return measure_run(run_from_order(order), loaded.qrels, report.measures)


def _measure(search: TwoStageSearch, loaded: _Collection, output: Output) -> SystemsReport:
    from biorerank_plugins.evaluation import evaluate_systems

    output.note(f"Measuring both stages on all {len(loaded.queries)} questions …")
    return evaluate_systems(
        search.index,
        loaded.queries,
        loaded.qrels,
        rerankers=search.reranker,
        candidates=_CANDIDATES,
        measures=("nDCG@10", "RR@10"),
        show_progress=output.show_progress,
    )
