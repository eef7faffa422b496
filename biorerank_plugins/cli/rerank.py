"""``biorerank rerank``: order passages of a file, or of stdin, by relevance to a question."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

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
from biorerank_plugins.cli.inputs import LINES, STDIN, Format, SkipBad, read_collection
from biorerank_plugins.cli.output import Output
from biorerank_plugins.cli.views import ranking_table, tell_retracted


@command
def rerank(
    query: Annotated[str, typer.Argument(help="The question.")],
    passages: Annotated[
        Path,
        typer.Argument(
            metavar="PASSAGES", parser=_common.path_or_stdin, help="A file or folder; - is one a line on stdin."
        ),
    ],
    top_k: Annotated[int | None, typer.Option("--top-k", "-k", min=1, help="Keep the best; all if not given.")] = None,
    min_score: MinScore = None,
    min_probability: MinProbability = None,
    evidence: EvidenceSentences = 0,
    abstain: Abstain = False,
    retracted: Retracted = RetractedArticles.KEEP,
    recency: Recency = None,
    boost: Boost = None,
    format: Format = "auto",
    skip_bad: SkipBad = False,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = "auto",
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Order passages by relevance to a question.

    PASSAGES is anything that can be indexed (JSONL, TSV, text folder, PubMed XML, also gzipped), a .txt file with one
    passage a line, or - for such lines on stdin.

    Example: cat notes.txt | biorerank rerank "Do statins cause muscle pain?" - --top-k 3
    """
    question = _common.check_question(query)
    if passages != STDIN and not passages.exists() and Path(query).exists():
        swapped = f"biorerank rerank {shlex.quote(str(passages))} {shlex.quote(query)}"
        _common.usage_error(f"The first argument is the question: {swapped}")
    output = Output(json, quiet)
    articles = article_options(retracted, recency, boost)
    if format == "auto" and (passages == STDIN or (passages.suffix == ".txt" and passages.is_file())):
        format = LINES
    texts = list(read_collection([passages], format=format, skip_bad=skip_bad, output=output))
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
            **articles,
            show_progress=output.show_progress and len(texts) > 100,
        )
    if json:
        output.document(ranking.to_dict())
    if abstain and ranking.no_evidence:
        _common.fail("No evidence: no passage reaches the threshold.", code=_common.NO_EVIDENCE)
    output.table(*ranking_table(ranking, is_boosted=articles["boosts"] is not None))
    tell_retracted(output, ranking.to_dict())
