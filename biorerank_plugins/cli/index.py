"""``biorerank index``: passages in files become a searchable folder."""

from __future__ import annotations

import time
from dataclasses import replace
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biorerank_plugins.cli.index_checks import check_engine, check_factory, check_shards, check_target, refuse_with_add
from biorerank_plugins.cli.index_scale import AskedIndex, EngineName, show_plan
from biorerank_plugins.cli.inputs import LINES, HowToRead, read_changes, read_collection
from biorerank_plugins.cli.loading import Encoder, Models
from biorerank_plugins.cli.one_line_errors import command, fail, usage_error
from biorerank_plugins.cli.option_groups import path_option, path_or_stdin
from biorerank_plugins.cli.output import Output

if TYPE_CHECKING:
    from biorerank_plugins.first_stage import SearchableIndex


class OnDuplicate(StrEnum):
    """What to do about a passage whose id is there already."""

    ERROR = "error"
    SKIP = "skip"


class Passages(StrEnum):
    """What becomes of a long text file."""

    PARTS = "parts"
    WHOLE = "whole"


@command
def index(
    *,
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="INPUT", parser=path_or_stdin, help="Files or folders; - reads stdin."),
    ] = None,
    out: Annotated[
        Path | None, path_option("--out", "-o", metavar="FOLDER", help="Where the index is, or shall be.")
    ] = None,
    how: Annotated[HowToRead, "format", "id_key", "text_key", "title_key", "encoding"],
    factory: Annotated[
        str | None, typer.Option("--factory", help="FAISS index: Flat (default), HNSW32, IVF256,Flat, …")
    ] = None,
    engine: Annotated[
        EngineName, typer.Option("--engine", help="plain: this process. ray: Ray, and a run can go on.")
    ] = EngineName.PLAIN,
    lists_on_disk: Annotated[
        bool, typer.Option("--lists-on-disk", help="Keep the lists of an IVF index on disk; it cannot be changed then.")
    ] = False,
    shards: Annotated[
        int | None, typer.Option("--shards", metavar="N", min=1, help="Write N indexes, searched side by side as one.")
    ] = None,
    plan: Annotated[
        int | None, typer.Option("--plan", metavar="N", min=1, help="Only tell memory, disk and hours for N passages.")
    ] = None,
    encoder: Encoder = None,
    no_lexical: Annotated[
        bool, typer.Option("--no-lexical", help="Vectors only: no BM25, and so no hybrid search.")
    ] = False,
    passages: Annotated[
        Passages, typer.Option("--passages", help="Long texts: cut at paragraphs and sentences, or whole.")
    ] = Passages.PARTS,
    skip_bad: Annotated[
        bool,
        typer.Option(
            "--skip-bad", help="Leave out malformed lines and say how many; duplicates are a matter of --on-duplicate."
        ),
    ] = False,
    on_duplicate: Annotated[
        OnDuplicate, typer.Option("--on-duplicate", help="An id that is there already.")
    ] = OnDuplicate.ERROR,
    add: Annotated[bool, typer.Option("--add", help="Add to the index that is there.")] = False,
    update: Annotated[
        bool,
        typer.Option(
            "--update", help="Bring the index up to date: newer versions replace, what files delete is removed."
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the index that is there.")] = False,
    models: Annotated[Models, "device", "dtype"],
    output: Output,
) -> None:
    """Build an index of passages, add to one, or plan one.

    Reads tables (CSV, TSV, Excel, Parquet, JSONL, a list in JSON), literature (PubMed, Europe PMC, MEDLINE, RIS, JATS,
    BioC, BioASQ) and notes (text, Markdown, HTML, Word, PDF), in folders and ZIP archives, compressed or not. What a
    file is tells its content. --id-key, --text-key and --title-key name columns whose names are unusual.

    The folder is switched to the new index at the very end: until then, and after Ctrl-C or an error, the index that
    was there stays as it was.

    --engine ray embeds with Ray, in parts that are kept in FOLDER.work until the index is done: after a crash the same
    command goes on. --plan N measures this machine for some seconds, indexes nothing, and tells
    what N passages would take. --shards N writes N indexes that are searched side by side as one; built again in the
    same folder after a crash, it goes on.

    --update takes PubMed's update files, the oldest first, in one step: all of it or nothing, in all shards.

    Example: biorerank index corpus.jsonl.gz pubmed24n0001.xml.gz --out pubmed-index
    """
    models = replace(models, encoder=encoder)
    if plan is not None:
        show_plan(plan, inputs, models, output)
        return
    if not inputs or out is None:
        missing = "option '--out'" if inputs else "argument 'INPUT'"
        usage_error(f"Missing {missing} (only --plan N needs none). See 'biorerank index --help'.")
    if shards is not None:
        check_shards(add=add, update=update, overwrite=overwrite, lists_on_disk=lists_on_disk)
    check_target(out, add=add, update=update, overwrite=overwrite)
    if add or update:
        refuse_with_add(factory, no_lexical)
    check_factory(factory)
    check_engine(engine, inputs, lists_on_disk=lists_on_disk, simple=not (add or update) and how.format != LINES)
    how = replace(how, skip_bad=skip_bad, passages=passages.value)
    how.check(LINES)
    asked = AskedIndex(inputs, out, how, factory or "Flat", not no_lexical, on_duplicate.value, models, output)
    start = time.perf_counter()
    if update:
        _update(asked)
        return
    summary: dict[str, Any]
    if shards is not None:
        with asked.build_shards(shards, engine) as sharded:
            summary = {**_summary(sharded, out, len(sharded)), "shards": shards}
    elif engine is EngineName.RAY:
        with asked.build_on_ray(lists_on_disk) as built:
            summary = _summary(built, out, len(built))
    else:
        summary = _here(asked, add=add)
    summary["seconds"] = round(time.perf_counter() - start, 3)
    if output.json:
        output.document(summary)
    noun = "passage" if summary["passages"] == 1 else "passages"
    output.line(f"{out}: {summary['passages']:,} {noun} ({summary['added']:,} new) in {summary['seconds']:.1f} s")


def _here(asked: AskedIndex, *, add: bool) -> dict[str, Any]:
    """Build an index in this process, or add to the one that is there."""
    from biorerank_plugins.first_stage import PassageIndex
    from biorerank_plugins.first_stage.storage import prepared_folder

    passages = read_collection(asked.inputs, asked.how, asked.output)
    # What stands in the way of saving is found before the passages are embedded, not after.
    with prepared_folder(asked.out):
        first = next(passages, None)  # input that cannot be read shows before a model is loaded
        if first is None and not add:
            fail("There are no passages to index in the input.")
        passages = passages if first is None else chain([first], passages)
        if add:
            with asked.models.open_index(asked.out) as opened:
                assert isinstance(opened, PassageIndex)  # check_target refused a sharded one
                added = opened.add(passages, on_duplicate=asked.on_duplicate, show_progress=asked.output.show_progress)
                return _summary(opened, asked.out, added)
        with PassageIndex.build(passages, **asked.build_options()) as built:
            built.save(asked.out)
            return _summary(built, asked.out, len(built))


def _update(asked: AskedIndex) -> None:
    output, out = asked.output, asked.out
    changes = read_changes(asked.inputs, asked.how, output)
    with asked.models.open_index(out) as opened:
        report = opened.update(changes, show_progress=output.show_progress).to_dict()
        if output.json:
            output.document({**_summary(opened, out, report["added"]), **report})
        told = ", ".join(f"{count:,} {name}" for name, count in report.items() if count) or "nothing changed"
        output.line(f"{out}: {len(opened):,} passages; {told}")


def _summary(index: SearchableIndex, out: Path, added: int) -> dict[str, Any]:
    return {
        "folder": str(out),
        "passages": len(index),
        "added": added,
        "encoder": index.encoder.model_id,
        "lexical": index.lexical,
    }
