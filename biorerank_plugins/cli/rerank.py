"""``biorerank rerank``: order passages of a file, or of stdin, by relevance to a question."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from biorerank_plugins.cli import _common
from biorerank_plugins.cli._common import (
    Abstain,
    Debug,
    Device,
    Dtype,
    EvidenceSentences,
    Json,
    MinProbability,
    MinScore,
    Model,
    Quiet,
    command,
)
from biorerank_plugins.cli.articles import Boost, Recency, Retracted, RetractedArticles, article_options
from biorerank_plugins.cli.inputs import (
    LINES,
    STDIN,
    Encoding,
    Format,
    HowToRead,
    IdKey,
    SkipBad,
    TextKey,
    TitleKey,
    read_collection,
    skipping,
)
from biorerank_plugins.cli.output import Output
from biorerank_plugins.cli.rerank_run import RunJob, rerank_run
from biorerank_plugins.cli.views import ranking_table, tell_retracted


@command
def rerank(
    query: Annotated[str | None, typer.Argument(help="The question.")] = None,
    passages: Annotated[
        Path | None,
        typer.Argument(
            metavar="PASSAGES", parser=_common.path_or_stdin, help="A file or folder; - is one a line on stdin."
        ),
    ] = None,
    run: Annotated[
        Path | None, typer.Option("--run", parser=_common.path, help="A TREC run to rerank, instead of QUERY PASSAGES.")
    ] = None,
    queries: _common.Queries = None,
    corpus: Annotated[Path | None, typer.Option("--corpus", parser=_common.path, help="The run's passages.")] = None,
    index: _common.IndexOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", parser=_common.path, help="The new run, also .gz.")
    ] = None,
    candidates: _common.Candidates = 100,
    fusion: _common.Fusion = None,
    second_reader: Annotated[
        bool, typer.Option("--second-reader", help="Let the bi-encoder read too: better order, about twice the time.")
    ] = False,
    top_k: Annotated[int | None, typer.Option("--top-k", "-k", min=1, help="Keep the best; all if not given.")] = None,
    min_score: MinScore = None,
    min_probability: MinProbability = None,
    evidence: EvidenceSentences = 0,
    abstain: Abstain = False,
    retracted: Retracted = RetractedArticles.KEEP,
    recency: Recency = None,
    boost: Boost = None,
    format: Format = "auto",
    id_key: IdKey = None,
    text_key: TextKey = None,
    title_key: TitleKey = None,
    encoding: Encoding = None,
    skip_bad: SkipBad = False,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = "auto",
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Order passages by relevance to a question.

    PASSAGES is anything that can be indexed, a .txt file with one passage a line, or - for such lines on stdin.

    --run reranks the lists of another system and writes them as a run again, without judgements: biorerank rerank
    --run in.run --queries questions.tsv --corpus corpus.jsonl --out out.run

    Example: cat notes.txt | biorerank rerank "Do statins cause muscle pain?" - --top-k 3
    """
    if query and passages and passages != STDIN and not passages.exists() and Path(query).exists():
        swapped = f"biorerank rerank {shlex.quote(str(passages))} {shlex.quote(query)}"
        _common.usage_error(f"The first argument is the question: {swapped}")
    output = Output(json, quiet)
    how = HowToRead(format, skipping(skip_bad), "parts", id_key, text_key, title_key, encoding)
    articles = article_options(retracted, recency, boost)
    order = _order(fusion, second_reader)
    if run is not None:
        if query is not None or queries is None or out is None or (corpus is None) == (index is None):
            _common.usage_error(
                "--run needs --queries, --out, and --corpus or --index; it takes no QUERY and PASSAGES."
            )
        if top_k or evidence or abstain or min_score is not None or min_probability is not None:
            _common.usage_error("--run keeps every passage of a list: no --top-k, --evidence, --abstain, --min-…")
        job = RunJob(run, queries, out, corpus, index, candidates)
        rerank_run(job, how, model, device, dtype, {**order, **articles}, output)
        return
    if query is None or passages is None:
        missing = "QUERY" if query is None else "PASSAGES"
        _common.usage_error(f"Missing argument '{missing}' (or --run). See 'biorerank rerank --help'.")
    question = _common.check_question(query)
    if format == "auto" and (passages == STDIN or (passages.suffix == ".txt" and passages.is_file())):
        how = replace(how, format=LINES)
    texts = list(read_collection([passages], how, output))
    if not texts:
        _common.fail(f"{'stdin' if passages == STDIN else passages} holds no passages to rerank.")
    with _common.load_reranker(model, device, dtype) as reranker:
        _common.check_abstain(reranker, abstain)
        ranking = reranker.rank(
            question,
            texts,
            top_k=top_k,
            min_score=min_score,
            min_probability=min_probability,
            evidence=evidence,
            **order,
            **articles,
            show_progress=output.show_progress and len(texts) > 100,
        )
    if json:
        output.document(ranking.to_dict())
    if abstain and ranking.no_evidence:
        _common.fail("No evidence: no passage reaches the threshold.", code=_common.NO_EVIDENCE)
    output.table(*ranking_table(ranking, is_boosted=articles["boosts"] is not None))
    tell_retracted(output, ranking.to_dict())


def _order(fusion: float | None, second_reader: bool) -> dict[str, Any]:
    """Return what enters the order beside the logit, as the option of a ranking."""
    if second_reader and fusion is not None:
        _common.usage_error("--second-reader and --fusion exclude each other.")
    if second_reader:
        return {"fusion": "second-reader"}
    return {"fusion": "stored" if fusion is None else fusion}
