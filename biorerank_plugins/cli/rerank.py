"""``biorerank rerank``: order passages of a file, or of stdin, by relevance to a question."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from biorerank_plugins.cli._common import (
    NO_EVIDENCE,
    Candidates,
    Fusion,
    IndexOption,
    Kept,
    Queries,
    check_question,
    path_option,
    path_or_stdin,
)
from biorerank_plugins.cli.articles import Articles
from biorerank_plugins.cli.inputs import LINES, STDIN, HowToRead, read_collection
from biorerank_plugins.cli.loading import RerankerOnly
from biorerank_plugins.cli.one_line_errors import command, fail, usage_error
from biorerank_plugins.cli.output import Output
from biorerank_plugins.cli.rerank_run import RunJob, rerank_run
from biorerank_plugins.cli.views import ranking_table, tell_retracted


@command
def rerank(
    *,
    query: Annotated[str | None, typer.Argument(help="The question.")] = None,
    passages: Annotated[
        Path | None,
        typer.Argument(metavar="PASSAGES", parser=path_or_stdin, help="A file or folder; - is one a line on stdin."),
    ] = None,
    run: Annotated[Path | None, path_option("--run", help="A TREC run to rerank, instead of QUERY PASSAGES.")] = None,
    queries: Queries = None,
    corpus: Annotated[Path | None, path_option("--corpus", help="The run's passages.")] = None,
    index: IndexOption = None,
    out: Annotated[Path | None, path_option("--out", "-o", metavar="FILE", help="The new run, also .gz.")] = None,
    candidates: Candidates = 100,
    fusion: Fusion = None,
    second_reader: Annotated[
        bool, typer.Option("--second-reader", help="Let the bi-encoder read too: better order, about twice the time.")
    ] = False,
    top_k: Annotated[int | None, typer.Option("--top-k", "-k", min=1, help="Keep the best; all if not given.")] = None,
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
    options = {"fusion": _order(fusion, second_reader), **articles.rank_options()}
    if run is not None:
        if query is not None or queries is None or out is None or (corpus is None) == (index is None):
            usage_error("--run needs --queries, --out, and --corpus or --index; it takes no QUERY and PASSAGES.")
        if top_k or kept != Kept():
            usage_error("--run keeps every passage of a list: no --top-k, --evidence, --abstain, --min-…")
        rerank_run(RunJob(run, queries, out, corpus, index, candidates), how, models, options, output)
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
    if output.json:
        output.document(ranking.to_dict())
    if kept.abstain and ranking.no_evidence:
        fail("No evidence: no passage reaches the threshold.", code=NO_EVIDENCE)
    output.table(*ranking_table(ranking, is_boosted=options["boosts"] is not None))
    tell_retracted(output, ranking.to_dict())


def _order(fusion: float | None, second_reader: bool) -> float | str:
    """Return what enters the order beside the logit."""
    if second_reader and fusion is not None:
        usage_error("--second-reader and --fusion exclude each other.")
    return "second-reader" if second_reader else "stored" if fusion is None else fusion
