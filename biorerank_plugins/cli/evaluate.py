"""``biorerank evaluate``: what first stages and rerankers are worth on judged questions."""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biorerank_plugins.cli import _common
from biorerank_plugins.cli._common import Candidates, Debug, Device, Dtype, Encoder, Fusion, Json, Quiet, command
from biorerank_plugins.cli.before_after import before_after_document, reranked_by, show_before_after
from biorerank_plugins.cli.bioasq import score_submission
from biorerank_plugins.cli.evaluation_inputs import Sources, load_rerankers, name_models, read_inputs, tell_doubts
from biorerank_plugins.cli.inputs import SkipBad
from biorerank_plugins.cli.output import Output
from biorerank_plugins.cli.views import show_systems

if TYPE_CHECKING:
    from biorerank_plugins.evaluation import SystemsReport

_NOT_IN_FILE_NAMES = re.compile(r"[^\w.+-]+")


@command
def evaluate(
    index: _common.IndexOption = None,
    corpus: _common.Corpus = None,
    queries: _common.Queries = None,
    qrels: _common.Qrels = None,
    beir: _common.Beir = None,
    split: _common.Split = "test",
    bioasq: Annotated[
        list[Path] | None,
        typer.Option(
            "--bioasq",
            metavar="FILE",
            parser=_common.path,
            help="BioASQ Task B questions with gold snippets: adds BioASQ's measures; may be given repeatedly.",
        ),
    ] = None,
    first_stage: Annotated[
        list[str] | None,
        typer.Option("--first-stage", metavar="NAME", help="hybrid, dense or lexical; may be given repeatedly."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="Reranker: embedded name, folder, or hub name; may be given repeatedly, also as NAME=MODEL.",
        ),
    ] = None,
    no_rerank: Annotated[bool, typer.Option("--no-rerank", help="Measure first stages and runs only.")] = False,
    run: Annotated[
        list[str] | None,
        typer.Option("--run", metavar="NAME=FILE", help="A TREC run to compare with; may be given repeatedly."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", metavar="NAME", help="System that the others are compared with; the first one."),
    ] = None,
    submission: Annotated[
        Path | None,
        typer.Option("--submission", parser=_common.path, help="A BioASQ submission to score against --bioasq, alone."),
    ] = None,
    skip_bad: SkipBad = False,
    candidates: Candidates = 100,
    fusion: Fusion = None,
    limit_queries: Annotated[
        int | None, typer.Option("--limit-queries", min=1, help="Use the first N judged questions only.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", parser=_common.path, help="Folder for a report with plots (HTML, Markdown, JSON)."),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", parser=_common.path, help="File for every question's values.")
    ] = None,
    run_out: Annotated[
        Path | None, typer.Option("--run-out", parser=_common.path, help="Folder for all lists, as TREC files.")
    ] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json-out", parser=_common.path, help="File for the results, with every value.")
    ] = None,
    encoder: Encoder = None,
    device: Device = None,
    dtype: Dtype = "auto",
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Measure first stages and rerankers against judgements, side by side.

    Passages come from --index or --corpus, questions and judgements from --queries and --qrels; --beir or --bioasq
    stands for whatever of these is not given. Of a collection of abstracts BioASQ's gold articles are told by their
    PMIDs. --bioasq GOLD --submission FILE scores what was handed in, without any model.

    Several first stages, models or runs, and every report, compare systems by name: hybrid, hybrid+MODEL (the model
    alone), hybrid+MODEL+fusion (with the first stage's scores), and the names of the runs.

    Example: biorerank evaluate --index bioasq-index --queries dev.jsonl.gz --qrels qrels.dev.tsv --report out
    """
    output = Output(json, quiet)
    if submission is not None:
        score_submission(submission, bioasq or [], [index, corpus, queries, qrels, beir, run], output)
        return
    sources = Sources.checked(
        index=index,
        corpus=corpus,
        queries=queries,
        qrels=qrels,
        beir=beir,
        split=split,
        bioasq=bioasq or [],
        runs=run or [],
    )
    stages = _check_stages(first_stage or [])
    only_runs = sources.index is None and sources.corpus is None and not sources.bioasq
    if (no_rerank or only_runs) and model:
        _common.usage_error("--model needs passages to rerank, and no --no-rerank.")
    if only_runs and stages:
        _common.usage_error("--first-stage needs passages to search; give --index or --corpus.")
    models = {} if no_rerank or only_runs else name_models(model or [])
    for target in (run_out, json_out, csv, report):
        _check_target(target)
    if report is not None:
        from biorerank_plugins.evaluation.report.pages import prepare_folder

        prepare_folder(report)
    weight: Any = "stored" if fusion is None else fusion
    one_pair = len(models) == 1 and len(stages) <= 1
    is_simple = one_pair and not (sources.runs or baseline or report or csv or bioasq)

    with ExitStack() as stack:
        inputs = read_inputs(
            sources,
            stack,
            limit=limit_queries,
            encoder=encoder,
            device=device,
            dtype=dtype,
            skip_bad=skip_bad,
            output=output,
        )
        rerankers = load_rerankers(models, stack, device, dtype)
        passages = stack.enter_context(inputs.index(encoder, device, dtype, output))
        tell_doubts(inputs, sources, passages, output)
        from biorerank_plugins.evaluation import evaluate_systems
        from biorerank_plugins.evaluation.provenance import describe_setup

        systems = evaluate_systems(
            passages,
            inputs.queries,
            inputs.qrels,
            first_stages=stages,
            rerankers=rerankers,
            runs=inputs.runs,
            candidates=candidates,
            fusion=weight,
            baseline=baseline,
            gold=inputs.gold,
            show_progress=output.show_progress,
        )
        setup = {} if is_simple else describe_setup(passages, rerankers, command=["biorerank", *sys.argv[1:]])
    if is_simple:
        _save(systems, run_out, json_out)
        if json:
            output.document(before_after_document(systems, per_query=False))
        show_before_after(output, systems)
        return
    _save_systems(systems, setup, run_out, json_out, csv, report)
    if json:
        output.document({"setup": setup, **systems.to_dict()})
    show_systems(output, systems)
    if report is not None:
        output.note(f"The report is {report / 'report.html'}.")


def _check_stages(stages: list[str]) -> list[Any]:
    for stage in stages:
        if stage not in ("hybrid", "dense", "lexical"):
            _common.usage_error(f"--first-stage {stage!r} is unknown. Choose hybrid, dense or lexical.")
    return stages


def _check_target(path: Path | None) -> None:
    """Find out before the work, not after it, that its result cannot be written."""
    if path is not None and not path.absolute().parent.is_dir():
        _common.fail(f"{path} cannot be written: there is no folder {path.parent}.")


def _save(report: SystemsReport, run_out: Path | None, json_out: Path | None) -> None:
    from biorerank_plugins.evaluation import run_from_order, write_run

    if run_out is not None:
        run_out.mkdir(exist_ok=True)
        for tag, system in (("first-stage", report.systems[report.baseline]), ("reranked", reranked_by(report))):
            write_run(run_from_order(system.order), run_out / f"{tag.replace('-', '_')}.trec", tag=tag)
    _save_json(before_after_document(report), json_out)


def _save_systems(
    systems: SystemsReport,
    setup: dict[str, Any],
    run_out: Path | None,
    json_out: Path | None,
    csv: Path | None,
    report: Path | None,
) -> None:
    from biorerank_plugins.evaluation import run_from_order, write_run
    from biorerank_plugins.evaluation.differences import write_per_query

    _save_json({"setup": setup, **systems.to_dict()}, json_out)
    if csv is not None:
        write_per_query(systems, csv)
    if run_out is not None:
        run_out.mkdir(exist_ok=True)
        for place, (name, system) in enumerate(systems.systems.items(), start=1):
            tag = _NOT_IN_FILE_NAMES.sub("_", name)
            write_run(run_from_order(system.order), run_out / f"{place:02d}-{tag}.trec", tag=tag)
    if report is not None:
        from biorerank_plugins.evaluation.report.pages import write_report

        write_report(systems, setup, report)


def _save_json(document: dict[str, Any], path: Path | None) -> None:
    if path is not None:
        import json

        path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
