"""``biorerank search``: ask a saved index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biorerank_plugins.cli.bioasq import SNIPPETS, write_bioasq
from biorerank_plugins.cli.inputs import STDIN, read_questions
from biorerank_plugins.cli.loading import Models, check_order
from biorerank_plugins.cli.one_line_errors import command, fail, usage_error
from biorerank_plugins.cli.option_groups import (
    NO_EVIDENCE,
    Articles,
    Candidates,
    Effort,
    EffortChoice,
    Filter,
    FirstStage,
    Fusion,
    IndexArgument,
    Kept,
    check_question,
    check_writable,
    option,
    parse_filters,
    path_option,
    path_or_stdin,
)
from biorerank_plugins.cli.output import Output, write_lists
from biorerank_plugins.cli.views import Table, candidates_table, ranking_table, tell_left_out

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.protocol import SearchableIndex
    from biorerank_plugins.passages import Ranking
    from biorerank_plugins.readers import Query
    from biorerank_plugins.two_stage import TwoStageSearch

_AT_ONCE = 16  # questions answered together, so that answers appear while others are still to come

_STAGES = {"hybrid": "bi-encoder and BM25", "dense": "bi-encoder", "lexical": "BM25"}

Answer = tuple[dict[str, Any], Table]  # as JSON and as a table


@command
def search(
    *,
    index: IndexArgument,
    query: Annotated[str | None, typer.Argument(help="The question; - reads questions from stdin, one a line.")] = None,
    queries: Annotated[Path | None, option("A file of questions, instead of QUERY.", parser=path_or_stdin)] = None,
    k: Annotated[int, option("Passages to show.", "--k", "-k", min=1)] = 10,
    candidates: Candidates = 100,
    first_stage: Annotated[
        FirstStage | None, option("How candidates are found; hybrid, or dense for an index without a lexical part.")
    ] = None,
    no_rerank: Annotated[bool, option("Show what the first stage finds.", "--no-rerank")] = False,
    filter: Filter = None,
    kept: Kept,
    fusion: Fusion = None,
    effort: Effort = EffortChoice.FULL,
    articles: Articles,
    bioasq: Annotated[
        Path | None,
        path_option(
            "Write documents and snippets as a BioASQ Task b phase A submission, instead of showing passages.",
            metavar="FILE",
        ),
    ] = None,
    run_out: Annotated[
        Path | None,
        path_option(
            "Write the lists, each of --k passages, as a TREC run (also .gz), instead of showing them.", metavar="FILE"
        ),
    ] = None,
    models: Models,
    output: Output,
) -> None:
    """Find the passages of an index that answer a question.

    Several questions come from --queries FILE or from stdin; with --json each is then one line. --run-out FILE writes a
    TREC run of them, for trec_eval and the like. --bioasq FILE answers a BioASQ test set: --queries
    BioASQ-task13bPhaseA-testset1.json --bioasq submission.json.

    Example: biorerank search pubmed-index "Do statins cause muscle pain?" --k 5 --filter "year>=2015"
    """
    check_order("search", index, query)
    conditions = parse_filters(filter or [])
    of_articles = articles.rank_options()
    if bioasq is not None and (no_rerank or kept.abstain):
        usage_error("--bioasq needs the reranker's sentences, for every question: no --no-rerank or --abstain.")
    if run_out is not None and (bioasq is not None or kept.abstain):
        usage_error("--run-out holds the list of every question: no --bioasq or --abstain beside it.")
    check_writable(bioasq, run_out)
    questions, several = _questions(query, queries, output)
    with ExitStack() as stack:
        opened: SearchableIndex = models.open_beside_reranker(index)
        stack.enter_context(opened)
        stage = _usable(first_stage, opened)
        if no_rerank:
            if replace(kept, min_score=None) != Kept() or of_articles != Articles().rank_options():
                usage_error(
                    "--abstain, --evidence, --min-probability, --retracted, --recency and --boost need the reranker, "
                    "not --no-rerank."
                )
            answers = _first_stage(opened, stage, questions, k, conditions)
        else:
            from biorerank_plugins.two_stage import TwoStageSearch

            reranker = stack.enter_context(models.load_reranker())
            both = TwoStageSearch(opened, reranker, first_stage=stage.value)
            kept.check(reranker)
            options: dict[str, Any] = {
                "candidates": max(candidates, k),
                "filters": conditions,
                "top_k": k,
                "fusion": "stored" if fusion is None else fusion,
                "effort": effort.value,
                **kept.rank_options(),
                **of_articles,
            }
            if bioasq is not None:
                options["evidence"] = max(kept.evidence, SNIPPETS)
                write_bioasq(bioasq, questions, _rankings(both, questions, options), reranker, queries, output)
                return
            answers = _two_stages(both, questions, options)
        output.note(f"First stage: {stage.value} ({_STAGES[stage.value]}).")
        if run_out is not None:
            found = zip(questions, answers, strict=True)
            lists = {one.id: [passage["id"] for passage in answer["passages"]] for one, (answer, _) in found}
            write_lists(lists, run_out, output)
            return
        none = _write(output, questions, answers, several, abstain=kept.abstain)
    if none:
        fail(f"No evidence: no passage reaches the threshold ({none}).", code=NO_EVIDENCE)


def _questions(query: str | None, queries: Path | None, output: Output) -> tuple[list[Query], bool]:
    """Return the questions, and whether they came as a list."""
    from biorerank_plugins.readers import Query

    if (query is None) == (queries is None):
        usage_error("Give either QUERY or --queries FILE.")
    if queries is not None or query == "-":
        return read_questions(STDIN if queries is None else queries, output), True
    return [Query("1", check_question(query or ""))], False


def _usable(wanted: FirstStage | None, index: SearchableIndex) -> FirstStage:
    """Return how to search this index; what it has no part for is refused when it was asked for by name."""
    if wanted in (FirstStage.HYBRID, FirstStage.LEXICAL) and not index.lexical:
        fail(
            f"--first-stage {wanted} needs a lexical part, and this index was built with --no-lexical. "
            "Use --first-stage dense, or build the index again."
        )
    return wanted if wanted is not None else FirstStage.HYBRID if index.lexical else FirstStage.DENSE


def _texts(questions: Sequence[Query]) -> Iterator[list[str]]:
    """Give the texts of questions, as many at a time as are answered together."""
    for start in range(0, len(questions), _AT_ONCE):
        yield [question.text for question in questions[start : start + _AT_ONCE]]


def _first_stage(
    index: SearchableIndex, stage: FirstStage, questions: Sequence[Query], k: int, conditions: Any
) -> Iterator[Answer]:
    for texts in _texts(questions):
        for text, found in zip(texts, index.search_many(texts, k, conditions, stage.value), strict=True):
            passages = [{"rank": c.rank, **c.passage.to_dict(), "score": c.score} for c in found]
            lost = {"missing_shards": list(found.missing_shards)} if found.missing_shards else {}
            yield {"first_stage": stage.value, "query": text, "passages": passages, **lost}, candidates_table(found)


def _two_stages(both: TwoStageSearch, questions: Sequence[Query], options: dict[str, Any]) -> Iterator[Answer]:
    is_boosted = options["boosts"] is not None
    for ranking in _rankings(both, questions, options):
        table = ranking_table(ranking, is_boosted=is_boosted)
        yield {"first_stage": both.first_stage, **ranking.to_dict()}, table


def _rankings(both: TwoStageSearch, questions: Sequence[Query], options: dict[str, Any]) -> Iterator[Ranking]:
    for texts in _texts(questions):
        yield from both.search_many(texts, **options)


def _write(
    output: Output, questions: Sequence[Query], answers: Iterator[Answer], several: bool, *, abstain: bool
) -> str:
    """Write the answers; return the ids of the questions that are left without one."""
    without = []
    for number, (question, (document, table)) in enumerate(zip(questions, answers, strict=True)):
        if abstain and document.get("no_evidence"):
            without.append(question.id)
            table = (table[0], [])
        tell_left_out(output, document)
        if several:
            output.document({"query_id": question.id, **document}, indent=None)
            output.table(*table, query=f"{question.id}: {question.text}", first=number == 0)
            continue
        output.document(document)
        output.table(*table)
        if not table[1] and not without:
            output.note("Nothing found: no passage meets the conditions.")
    return ", ".join(without)
