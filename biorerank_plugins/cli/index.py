"""``biorerank index``: passages in files become a searchable folder."""

from __future__ import annotations

import time
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from biorerank_plugins.cli.index_building import AskedIndex, show_plan
from biorerank_plugins.cli.inputs import LINES, STDIN, HowToRead
from biorerank_plugins.cli.loading import Encoder, Models
from biorerank_plugins.cli.one_line_errors import command, fail, usage_error
from biorerank_plugins.cli.option_groups import option, path_option, path_or_stdin
from biorerank_plugins.cli.output import Output

EngineName = StrEnum("EngineName", {"PLAIN": "plain", "RAY": "ray"})
OnDuplicate = StrEnum("OnDuplicate", {"ERROR": "error", "SKIP": "skip"})
Passages = StrEnum("Passages", {"PARTS": "parts", "WHOLE": "whole"})


@command
def index(
    *,
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="INPUT", parser=path_or_stdin, help="Files or folders; - reads stdin."),
    ] = None,
    out: Annotated[
        Path | None, path_option("Where the index is, or shall be.", "--out", "-o", metavar="FOLDER")
    ] = None,
    how: Annotated[HowToRead, "format", "id_key", "text_key", "title_key", "encoding"],
    factory: Annotated[str | None, option("FAISS index: Flat (default), HNSW32, IVF256,Flat, …")] = None,
    engine: Annotated[EngineName, option("plain: this process. ray: Ray, and a run can go on.")] = EngineName.PLAIN,
    lists_on_disk: Annotated[
        bool, option("Keep the lists of an IVF index on disk; it cannot be changed then.", "--lists-on-disk")
    ] = False,
    shards: Annotated[int | None, option("Write N indexes, searched side by side as one.", metavar="N", min=1)] = None,
    plan: Annotated[int | None, option("Only tell memory, disk and hours for N passages.", metavar="N", min=1)] = None,
    encoder: Encoder = None,
    no_lexical: Annotated[bool, option("Vectors only: no BM25, and so no hybrid search.", "--no-lexical")] = False,
    passages: Annotated[Passages, option("Long texts: cut at paragraphs and sentences, or whole.")] = Passages.PARTS,
    skip_bad: Annotated[
        bool,
        option("Leave out malformed lines and say how many; duplicates are a matter of --on-duplicate.", "--skip-bad"),
    ] = False,
    on_duplicate: Annotated[OnDuplicate, option("An id that is there already.")] = OnDuplicate.ERROR,
    add: Annotated[bool, option("Add to the index that is there.", "--add")] = False,
    update: Annotated[
        bool, option("Bring the index up to date: newer versions replace, what files delete is removed.", "--update")
    ] = False,
    overwrite: Annotated[bool, option("Replace the index that is there.", "--overwrite")] = False,
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
    if shards is not None and (add or update or overwrite or lists_on_disk):
        usage_error(
            "--shards builds a new index: it takes no --add, --update, --overwrite or --lists-on-disk. "
            "Bring a sharded index up to date without it: biorerank index FILES --out FOLDER --update."
        )
    _check_target(out, add=add, update=update, overwrite=overwrite)
    _check_factory(factory, no_lexical, is_new=not (add or update))
    if engine is EngineName.PLAIN and lists_on_disk:
        usage_error("--lists-on-disk needs --engine ray.")
    if engine is EngineName.RAY and (add or update or how.format == LINES or STDIN in inputs):
        usage_error(
            "--engine ray builds a new index from files: it takes no --add, no --update, no stdin, no --format lines. "
            "Change the index that it built without --engine ray."
        )
    how = replace(how, skip_bad=skip_bad, passages=passages.value)
    how.check(LINES)
    asked = AskedIndex(inputs, out, how, factory or "Flat", not no_lexical, on_duplicate.value, models, output)
    start = time.perf_counter()
    if update:
        asked.update()
        return
    if shards is not None:
        summary = asked.build_shards(shards, on_ray=engine is EngineName.RAY)
    elif engine is EngineName.RAY:
        summary = asked.build_on_ray(lists_on_disk)
    else:
        summary = asked.build_here(add=add)
    summary["seconds"] = round(time.perf_counter() - start, 3)
    output.document(summary)
    noun = "passage" if summary["passages"] == 1 else "passages"
    output.line(f"{out}: {summary['passages']:,} {noun} ({summary['added']:,} new) in {summary['seconds']:.1f} s")


def _check_target(out: Path, *, add: bool, update: bool, overwrite: bool) -> None:
    """Refuse a folder that holds what the command would not replace, or lacks what it would add to."""
    from biorerank_plugins.first_stage.verification import is_index
    from biorerank_plugins.scale.shard_layout import is_sharded

    if add + update + overwrite > 1:
        usage_error("--add, --update and --overwrite exclude each other.")
    if is_sharded(out):
        if update:
            return
        fail(
            f"{out} holds a sharded index. --update changes it: what is new is added, newer versions replace. For "
            "another one take another folder: biorerank index FILES --shards N --out OTHER."
        )
    if (add or update) and not is_index(out):
        what, option = ("add to", "--add") if add else ("update", "--update")
        fail(f"There is no passage index in {out} to {what}; leave {option} out to build one.")
    if not (add or update or overwrite) and is_index(out):
        fail(
            f"{out} holds an index already. Use --overwrite to replace it, --add to add to it, --update to bring it up "
            "to date."
        )


def _check_factory(factory: str | None, no_lexical: bool, *, is_new: bool) -> None:
    """Refuse a type of index that is not offered, and what belongs to a new index only."""
    from biorerank_plugins.first_stage.factory import OFFERED, parse_factory

    if factory is not None and not is_new:
        usage_error("--factory belongs to a new index; --add and --update keep that of the index.")
    if no_lexical and not is_new:
        usage_error("--no-lexical belongs to a new index; --add and --update keep what the index has.")
    try:
        parse_factory("Flat" if factory is None else factory)
    except ValueError:
        usage_error(f"--factory {factory!r} is not offered. Choose one of: {OFFERED}.")
