"""``biorerank evaluate``: what reranking is worth on judged questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from biorerank_plugins.cli import _common
from biorerank_plugins.cli._common import Candidates, Debug, Device, Dtype, Encoder, Fusion, Json, Model, Quiet, command
from biorerank_plugins.cli.inputs import read_collection
from biorerank_plugins.cli.output import Output
from biorerank_plugins.cli.views import show_report

if TYPE_CHECKING:
    from biorerank_plugins.evaluation import EvaluationReport
    from biorerank_plugins.first_stage import PassageIndex
    from biorerank_plugins.readers import Query


@command
def evaluate(
    index: Annotated[
        Path | None, typer.Option("--index", parser=_common.path, help="Passages: a folder that biorerank index wrote.")
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option("--corpus", parser=_common.path, help="Passages: a file, indexed in memory.")
    ] = None,
    queries: Annotated[Path | None, typer.Option("--queries", parser=_common.path, help="A file of questions.")] = None,
    qrels: Annotated[Path | None, typer.Option("--qrels", parser=_common.path, help="A file of judgements.")] = None,
    beir: Annotated[
        Path | None, typer.Option("--beir", parser=_common.path, help="A folder with all three, in BEIR's layout.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Which judgements of --beir.")] = "test",
    candidates: Candidates = 100,
    fusion: Fusion = None,
    limit_queries: Annotated[
        int | None, typer.Option("--limit-queries", min=1, help="Use the first N judged questions only.")
    ] = None,
    run_out: Annotated[
        Path | None, typer.Option("--run-out", parser=_common.path, help="Folder for both runs, as TREC files.")
    ] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json-out", parser=_common.path, help="File for the report, with every value.")
    ] = None,
    model: Model = None,
    encoder: Encoder = None,
    device: Device = None,
    dtype: Dtype = "auto",
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Measure the first stage and the reranked lists against judgements.

    Passages come from --index or --corpus, questions and judgements from --queries and --qrels; --beir stands for
    whatever of these is not given.

    Example: biorerank evaluate --index bioasq-index --queries dev.jsonl.gz --qrels qrels.dev.tsv
    """
    output = Output(json, quiet)
    if index is not None and corpus is not None:
        _common.usage_error("Give the passages by --index or by --corpus, not both.")
    if beir is not None:
        from biorerank_plugins.readers import find_beir

        found = find_beir(beir, split=split)
        corpus = corpus if corpus is not None or index is not None else found.corpus
        queries, qrels = queries or found.queries, qrels or found.qrels
    if queries is None or qrels is None or (index is None and corpus is None):
        _common.usage_error("Give --beir FOLDER, or --queries and --qrels with --index or --corpus.")
    for target in (run_out, json_out):
        _check_target(target)
    asked, judged = _read_judged(queries, qrels, limit_queries)
    with (
        _common.load_reranker(model, device, dtype) as reranker,
        _open_or_build(index, corpus, encoder, device, dtype, output) as passages,
    ):
        from biorerank_plugins.evaluation import evaluate_two_stage

        report = evaluate_two_stage(
            passages,
            reranker,
            asked,
            judged,
            candidates=candidates,
            fusion="stored" if fusion is None else fusion,
            show_progress=output.show_progress,
        )
    _save(report, run_out, json_out)
    if json:
        output.document(report.to_dict(per_query=False))
    show_report(output, report)


def _check_target(path: Path | None) -> None:
    """Find out before the work, not after it, that its result cannot be written."""
    if path is not None and not path.absolute().parent.is_dir():
        _common.fail(f"{path} cannot be written: there is no folder {path.parent}.")


def _read_judged(queries: Path, qrels: Path, limit: int | None) -> tuple[list[Query], dict[str, dict[str, int]]]:
    """Return questions and judgements; with a limit, those of the first judged questions in the file's order."""
    from biorerank_plugins.readers import read_qrels, read_queries

    asked, judged = read_queries(queries), read_qrels(qrels)
    if limit is None:
        return asked, judged
    asked = [query for query in asked if query.id in judged][:limit]
    return asked, {query.id: judged[query.id] for query in asked} or judged


def _open_or_build(
    index: Path | None, corpus: Path | None, encoder: str | None, device: str | None, dtype: str, output: Output
) -> PassageIndex:
    if index is not None:
        return _common.open_index(index, encoder=encoder, device=device, dtype=dtype)
    from biorerank_plugins.first_stage import PassageIndex

    inputs: Sequence[Path] = [] if corpus is None else [corpus]
    passages = read_collection(inputs, format="auto", skip_bad=False, output=output)
    model = _common.load_encoder(encoder, device, dtype)
    output.note(f"Embedding the passages with {model.model_id} …")
    return PassageIndex.build(passages, encoder=model, show_progress=output.show_progress)


def _save(report: EvaluationReport, run_out: Path | None, json_out: Path | None) -> None:
    from biorerank_plugins.evaluation import write_run

    if run_out is not None:
        run_out.mkdir(exist_ok=True)
        write_run(report.first_stage_run, run_out / "first_stage.trec", tag="first-stage")
        write_run(report.reranked_run, run_out / "reranked.trec", tag="reranked")
    if json_out is not None:
        import json

        json_out.write_text(json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
