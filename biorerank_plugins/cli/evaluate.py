"""``biorerank evaluate``: what first stages and rerankers are worth on judged questions."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from biorerank_plugins.cli.before_after import before_after_document, reranked_by, show_before_after, show_systems
from biorerank_plugins.cli.bioasq import score_submission
from biorerank_plugins.cli.evaluation_inputs import Sources, name_models, read_inputs
from biorerank_plugins.cli.inputs import SkipBad
from biorerank_plugins.cli.loading import EncoderOnly
from biorerank_plugins.cli.one_line_errors import command, usage_error
from biorerank_plugins.cli.option_groups import Candidates, Fusion, check_writable, option, path_option, repeatable
from biorerank_plugins.cli.output import Output, save_json

if TYPE_CHECKING:
    from biorerank_plugins.evaluation import SystemResult, SystemsReport

_NOT_IN_FILE_NAMES = re.compile(r"[^\w.+-]+")


@command
def evaluate(
    *,
    sources: Sources,
    bioasq: Annotated[
        list[Path] | None,
        path_option(
            "BioASQ Task B questions with gold snippets: adds BioASQ's measures; may be given repeatedly.",
            metavar="FILE",
        ),
    ] = None,
    first_stage: Annotated[list[str] | None, repeatable("hybrid, dense or lexical", metavar="NAME")] = None,
    model: Annotated[
        list[str] | None,
        option(
            "Reranker: embedded name, folder, or hub name; may be given repeatedly, also as NAME=MODEL.",
            "--model",
            "-m",
            metavar="MODEL",
        ),
    ] = None,
    no_rerank: Annotated[bool, option("Measure first stages and runs only.", "--no-rerank")] = False,
    run: Annotated[list[str] | None, repeatable("A TREC run to compare with", metavar="NAME=FILE")] = None,
    baseline: Annotated[
        str | None, option("System that the others are compared with; the first one.", metavar="NAME")
    ] = None,
    submission: Annotated[Path | None, path_option("A BioASQ submission to score against --bioasq, alone.")] = None,
    skip_bad: SkipBad = False,
    candidates: Candidates = 100,
    fusion: Fusion = None,
    limit_queries: Annotated[int | None, option("Use the first N judged questions only.", min=1)] = None,
    report: Annotated[Path | None, path_option("Folder for a report with plots (HTML, Markdown, JSON).")] = None,
    csv: Annotated[Path | None, path_option("File for every question's values.")] = None,
    run_out: Annotated[Path | None, path_option("Folder for all lists, as TREC files.")] = None,
    json_out: Annotated[Path | None, path_option("File for the results, with every value.")] = None,
    models: EncoderOnly,
    output: Output,
) -> None:
    """Measure first stages and rerankers against judgements, side by side.

    Passages come from --index or --corpus, questions and judgements from --queries and --qrels; --beir or --bioasq
    stands for whatever of these is not given. Of a collection of abstracts BioASQ's gold articles are told by their
    PMIDs. --bioasq GOLD --submission FILE scores what was handed in, without any model.

    Several first stages, models or runs, and every report, compare systems by name: hybrid, hybrid+MODEL (the model
    alone), hybrid+MODEL+fusion (with the first stage's scores), and the names of the runs.

    Example: biorerank evaluate --index bioasq-index --queries dev.jsonl.gz --qrels qrels.dev.tsv --report out
    """
    if submission is not None:
        score_submission(submission, bioasq or [], run is not None or sources != Sources(split=sources.split), output)
        return
    sources = sources.checked(bioasq or [], run or [])
    stages: list[Any] = first_stage or []
    for stage in stages:
        if stage not in ("hybrid", "dense", "lexical"):
            usage_error(f"--first-stage {stage!r} is unknown. Choose hybrid, dense or lexical.")
    only_runs = sources.index is None and sources.corpus is None and not sources.bioasq
    if (no_rerank or only_runs) and model:
        usage_error("--model needs passages to rerank, and no --no-rerank.")
    if only_runs and stages:
        usage_error("--first-stage needs passages to search; give --index or --corpus.")
    named = {} if no_rerank or only_runs else name_models(model or [])
    check_writable(json_out, csv)
    check_writable(run_out, report, are_folders=True)
    if report is not None:
        from biorerank_plugins.evaluation.report.pages import prepare_folder

        prepare_folder(report)
    one_pair = len(named) == 1 and len(stages) <= 1
    is_simple = one_pair and not (sources.runs or baseline or report or csv or bioasq)

    with ExitStack() as stack:
        inputs = read_inputs(sources, stack, models, output, limit=limit_queries, skip_bad=skip_bad)
        rerankers = {
            name: stack.enter_context(replace(models, model=one).load_reranker()) for name, one in named.items()
        }
        passages = inputs.index(stack, models, output)
        from biorerank_plugins.evaluation import evaluate_systems
        from biorerank_plugins.evaluation.report.pages import describe_setup

        systems = evaluate_systems(
            passages,
            inputs.queries,
            inputs.qrels,
            first_stages=stages,
            rerankers=rerankers,
            runs=inputs.runs,
            candidates=candidates,
            fusion="stored" if fusion is None else fusion,
            baseline=baseline,
            gold=inputs.gold,
            show_progress=output.show_progress,
        )
        setup = {} if is_simple else describe_setup(passages, rerankers, command=["biorerank", *sys.argv[1:]])
    if is_simple:
        before, after = systems.systems[systems.baseline], reranked_by(systems)
        _write_runs([("first_stage", "first-stage", before), ("reranked", "reranked", after)], run_out)
        save_json(before_after_document(systems), json_out)
        output.document(before_after_document(systems, per_query=False))
        show_before_after(output, systems)
        return
    document = {"setup": setup, **systems.to_dict()}
    save_json(document, json_out)
    tags = {name: _NOT_IN_FILE_NAMES.sub("_", name) for name in systems.systems}
    places = enumerate(systems.systems.items(), start=1)
    _write_runs([(f"{place:02d}-{tags[name]}", tags[name], one) for place, (name, one) in places], run_out)
    _write_pages(systems, setup, csv, report)
    output.document(document)
    show_systems(output, systems)
    if report is not None:
        output.note(f"The report is {report / 'report.html'}.")


def _write_pages(systems: SystemsReport, setup: dict[str, Any], csv: Path | None, report: Path | None) -> None:
    if csv is not None:
        from biorerank_plugins.evaluation.results import write_per_query

        write_per_query(systems, csv)
    if report is not None:
        from biorerank_plugins.evaluation.report.pages import write_report

        write_report(systems, setup, report)


def _write_runs(results: Iterable[tuple[str, str, SystemResult]], folder: Path | None) -> None:
    """Write the lists of systems as TREC files, each with its name and its tag, if a folder is named."""
    from biorerank_plugins.evaluation import run_from_order, write_run

    if folder is not None:
        folder.mkdir(exist_ok=True)
        for name, tag, system in results:
            write_run(run_from_order(system.order), folder / f"{name}.trec", tag=tag)
