"""``biorerank ask``: an answer in the words of the passages, with citations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from biorerank_plugins.cli import _common
from biorerank_plugins.cli._common import Candidates, Debug, Device, Dtype, Encoder, Json, Model, Quiet, command
from biorerank_plugins.cli.articles import Retracted, RetractedArticles
from biorerank_plugins.cli.filters import parse_filters
from biorerank_plugins.cli.output import Output, one_line


@command
def ask(
    index: Annotated[
        Path, typer.Argument(metavar="INDEX", parser=_common.path, help="A folder that biorerank index wrote.")
    ],
    query: Annotated[str, typer.Argument(help="The question.")],
    sentences: Annotated[int, typer.Option("--sentences", "-s", min=1, help="Sentences to quote, at most.")] = 4,
    passages: Annotated[int, typer.Option("--passages", "-k", min=1, help="Passages to quote from.")] = 5,
    candidates: Candidates = 100,
    filter: Annotated[
        list[str] | None, typer.Option("--filter", metavar="CONDITION", help="As year>=2015; may be given repeatedly.")
    ] = None,
    retracted: Retracted = RetractedArticles.FLAG,
    model: Model = None,
    encoder: Encoder = None,
    device: Device = None,
    dtype: Dtype = "auto",
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Answer a question in sentences of the passages, each with its source; exit with 3 where there is no evidence.

    Nothing is written by a language model. The sources say which articles are retracted; --retracted drop quotes none
    of them. Research use; not medical advice.

    Example: biorerank ask pubmed-index "Do statins cause muscle pain?"
    """
    output = Output(json, quiet)
    conditions = parse_filters(filter or [])
    question = _common.check_question(query)
    with (
        _common.open_index(index, encoder=encoder, device=device, dtype=dtype) as opened,
        _common.load_reranker(model, device, dtype) as reranker,
    ):
        from biorerank_plugins.answering import compose_answer
        from biorerank_plugins.search import TwoStageSearch

        ranking = TwoStageSearch(opened, reranker).search(
            question,
            candidates=max(candidates, passages),
            filters=conditions,
            top_k=passages,
            evidence=sentences,
            retracted=retracted.value,
        )
        answer = compose_answer(ranking, max_sentences=sentences)
    if json:
        output.document(answer.to_dict())
    if not answer.quotes:
        _common.fail("No evidence: nothing that was found reaches the threshold.", code=_common.NO_EVIDENCE)
    if not json:
        typer.echo(answer.text)
        for citation in answer.citations:
            typer.echo(f"[{citation.number}] {one_line(citation.text)}")
