"""``biorerank rerank``: order passages of a file, or of stdin, by relevance to a question."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biorerank_plugins.cli.inputs import LINES, STDIN, HowToRead, read_collection, read_questions
from biorerank_plugins.cli.loading import Models, RerankerOnly
from biorerank_plugins.cli.one_line_errors import command, fail, usage_error
from biorerank_plugins.cli.option_groups import (
    NO_EVIDENCE,
    Articles,
    Candidates,
    Fusion,
    IndexOption,
    Kept,
    Queries,
    check_question,
    check_writable,
    option,
    path_option,
    path_or_stdin,
)
from biorerank_plugins.cli.output import Output, write_lists
from biorerank_plugins.cli.views import ranking_table, tell_left_out

if TYPE_CHECKING:
    from biorerank_plugins.passages import Passage


@command
def rerank(
    *,
    query: Annotated[str | None, typer.Argument(help="The question.")] = None,
    passages: Annotated[
        Path | None,
        typer.Argument(metavar="PASSAGES", parser=path_or_stdin, help="A file or folder; - is one a line on stdin."),
    ] = None,
    run: Annotated[Path | None, path_option("A TREC run to rerank, instead of QUERY PASSAGES.")] = None,
    queries: Queries = None,
    corpus: Annotated[Path | None, path_option("The run's passages.")] = None,
    index: IndexOption = None,
    out: Annotated[Path | None, path_option("The new run, also .gz.", "--out", "-o", metavar="FILE")] = None,
    candidates: Candidates = 100,
    fusion: Fusion = None,
    second_reader: Annotated[
        bool, option("Let the bi-encoder read too: better order, about twice the time.", "--second-reader")
    ] = False,
    top_k: Annotated[int | None, option("Keep the best; all if not given.", "--top-k", "-k", min=1)] = None,
    kept: Kept,
    articles: Articles,
    how: HowToRead,
    models: RerankerOnly,
    output: Output,
) -> None:
    """Order passages by relevance to a question.

    PASSAGES is anything that can be indexed, a .txt file with one passage a line, or - for such lines on stdin.

    --run reranks the lists of another system and writes them as a run again, without judgements: biorerank rerank
    --run in.run --queries questions.tsv --corpus corpus.jsonl --out out.run

    Example: cat notes.txt | biorerank rerank "Do statins cause muscle pain?" - --top-k 3
    """
    if query and passages and passages != STDIN and not passages.exists() and Path(query).exists():
        swapped = f"biorerank rerank {shlex.quote(str(passages))} {shlex.quote(query)}"
        usage_error(f"The first argument is the question: {swapped}")
    if second_reader and fusion is not None:
        usage_error("--second-reader and --fusion exclude each other.")
    order = "second-reader" if second_reader else "stored" if fusion is None else fusion
    options = {"fusion": order, **articles.rank_options()}
    if run is not None:
        if query is not None or queries is None or out is None or (corpus is None) == (index is None):
            usage_error("--run needs --queries, --out, and --corpus or --index; it takes no QUERY and PASSAGES.")
        if top_k or kept != Kept():
            usage_error("--run keeps every passage of a list: no --top-k, --evidence, --abstain, --min-…")
        check_writable(out)
        find = partial(_find, corpus, index, how, output)
        _rerank_run(run, queries, out, candidates, find, models, options, output)
        return
    if query is None or passages is None:
        missing = "QUERY" if query is None else "PASSAGES"
        usage_error(f"Missing argument '{missing}' (or --run). See 'biorerank rerank --help'.")
    question = check_question(query)
    if how.format == "auto" and (passages == STDIN or (passages.suffix == ".txt" and passages.is_file())):
        how = replace(how, format=LINES)
    texts = list(read_collection([passages], how, output))
    if not texts:
        fail(f"{'stdin' if passages == STDIN else passages} holds no passages to rerank.")
    with models.load_reranker() as reranker:
        kept.check(reranker)
        ranking = reranker.rank(
            question,
            texts,
            top_k=top_k,
            **kept.rank_options(),
            **options,
            show_progress=output.show_progress and len(texts) > 100,
        )
    output.document(ranking.to_dict())
    if kept.abstain and ranking.no_evidence:
        fail("No evidence: no passage reaches the threshold.", code=NO_EVIDENCE)
    output.table(*ranking_table(ranking, is_boosted=options["boosts"] is not None))
    tell_left_out(output, ranking.to_dict())


def _rerank_run(
    run: Path,
    queries: Path,
    out: Path,
    candidates: int,
    find: Callable[[set[str]], dict[str, Passage]],
    models: Models,
    options: dict[str, Any],
    output: Output,
) -> None:
    """Rerank the first candidates of each list; those that are not known stay behind, in the order that they had."""
    from biorerank_plugins.evaluation import read_run
    from biorerank_plugins.passages import Candidate

    lists = read_run(run)
    asked = [query for query in read_questions(queries, output) if query.id in lists]
    if not asked:
        few = ", ".join(list(lists)[:3])
        fail(f"The run {run} has none of the questions in {queries}; it has for example {few}.")
    orders = {query.id: _best_first(lists[query.id]) for query in asked}
    wanted = {id_ for ids in orders.values() for id_ in ids[:candidates]}
    passages = find(wanted)
    if not passages:
        few = ", ".join(sorted(wanted)[:3])
        fail(f"None of the passages of {run} is in the collection; the run names for example {few}.")
    with models.load_reranker() as reranker:
        for query in asked:
            head = [id_ for id_ in orders[query.id][:candidates] if id_ in passages]
            given = [Candidate(passages[id_], lists[query.id][id_], rank) for rank, id_ in enumerate(head, start=1)]
            ranked = [one.passage.id for one in reranker.rank(query.text, given, **options)] if given else []
            orders[query.id] = list(dict.fromkeys([*ranked, *orders[query.id]]))
    missing = len(wanted - passages.keys())
    write_lists(orders, out, output, not_found=missing)
    if missing:
        output.warn(f"{missing:,} of {len(wanted):,} passages of the run are not in the collection; they stand behind.")
    if left := len(lists) - len(asked):
        output.warn(f"{left:,} of {len(lists):,} lists of the run belong to none of the questions and were left out.")


def _find(corpus: Path | None, index: Path | None, how: HowToRead, output: Output, ids: set[str]) -> dict[str, Passage]:
    if corpus is not None:
        return {passage.id: passage for passage in read_collection([corpus], how, output) if passage.id in ids}
    assert index is not None  # --run takes one of the two
    with Models().open_index(index) as opened:
        known = ((id_, opened.get(id_)) for id_ in ids)
        return {id_: passage for id_, passage in known if passage is not None}


def _best_first(found: Mapping[str, float]) -> list[str]:
    """Return the ids in trec_eval's order: equal scores by falling id."""
    return sorted(found, key=lambda id_: (found[id_], id_), reverse=True)
