"""``biorerank index``: passages in files become a searchable folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biorerank_plugins.cli import _common
from biorerank_plugins.cli._common import Debug, Device, Dtype, Encoder, Json, Quiet, command
from biorerank_plugins.cli.index_checks import check_engine, check_factory, check_shards, check_target, refuse_with_add
from biorerank_plugins.cli.index_scale import (
    AskedIndex,
    Engine,
    EngineName,
    ListsOnDisk,
    Plan,
    Shards,
    build_shards,
    show_plan,
)
from biorerank_plugins.cli.inputs import (
    LINES,
    Encoding,
    Format,
    HowToRead,
    IdKey,
    TextKey,
    TitleKey,
    read_changes,
    read_collection,
    skipping,
)
from biorerank_plugins.cli.output import Output

if TYPE_CHECKING:
    from biorerank_plugins.first_stage import SearchableIndex
    from biorerank_plugins.passages import Passage


SkipBad = Annotated[
    bool,
    typer.Option(
        "--skip-bad", help="Leave out malformed lines and say how many; duplicates are a matter of --on-duplicate."
    ),
]


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
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="INPUT", parser=_common.path_or_stdin, help="Files or folders; - reads stdin."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", parser=_common.path, help="Where the index is, or shall be."),
    ] = None,
    format: Format = "auto",
    id_key: IdKey = None,
    text_key: TextKey = None,
    title_key: TitleKey = None,
    encoding: Encoding = None,
    factory: Annotated[
        str | None, typer.Option("--factory", help="FAISS index: Flat (default), HNSW32, IVF256,Flat, …")
    ] = None,
    engine: Engine = EngineName.PLAIN,
    lists_on_disk: ListsOnDisk = False,
    shards: Shards = None,
    plan: Plan = None,
    encoder: Encoder = None,
    no_lexical: Annotated[
        bool, typer.Option("--no-lexical", help="Vectors only: no BM25, and so no hybrid search.")
    ] = False,
    passages: Annotated[
        Passages, typer.Option("--passages", help="Long texts: cut at paragraphs and sentences, or whole.")
    ] = Passages.PARTS,
    skip_bad: SkipBad = False,
    on_duplicate: Annotated[OnDuplicate, typer.Option("--on-duplicate", help="An id that is there already.")] = (
        OnDuplicate.ERROR
    ),
    add: Annotated[bool, typer.Option("--add", help="Add to the index that is there.")] = False,
    update: Annotated[
        bool,
        typer.Option(
            "--update",
            help="Bring the index up to date: newer versions replace, what files delete is removed.",
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the index that is there.")] = False,
    device: Device = None,
    dtype: Dtype = "auto",
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
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
    if plan is not None:
        show_plan(plan, inputs, encoder, device, dtype, Output(json, quiet))
        return
    if not inputs or out is None:
        missing = "option '--out'" if inputs else "argument 'INPUT'"
        _common.usage_error(f"Missing {missing} (only --plan N needs none). See 'biorerank index --help'.")
    from biorerank_plugins.first_stage.storage import prepared_folder

    output = Output(json, quiet)
    if shards is not None:
        check_shards(add=add, update=update, overwrite=overwrite, lists_on_disk=lists_on_disk)
    check_target(out, add=add, update=update, overwrite=overwrite)
    if add or update:
        refuse_with_add(factory, no_lexical)
    check_factory(factory)
    check_engine(engine, inputs, lists_on_disk=lists_on_disk, simple=not (add or update) and format != LINES)
    how = HowToRead(format, skipping(skip_bad), passages.value, id_key, text_key, title_key, encoding)
    how.check(LINES)
    start = time.perf_counter()
    if shards is not None or engine is EngineName.RAY:
        asked = AskedIndex(inputs, out, how, factory or "Flat", not no_lexical)
        model = _common.load_encoder(encoder, device, dtype)
    if shards is not None:
        with build_shards(asked, engine, shards, model, on_duplicate.value, device, dtype, output) as sharded:
            summary = {**_summary(sharded, out, added=len(sharded)), "shards": shards}
        _tell(summary, out, start, output)
        return
    if engine is EngineName.RAY:
        with asked.build(model, lists_on_disk, on_duplicate.value, device, dtype, output) as built:
            summary = _summary(built, out, added=len(built))
        _tell(summary, out, start, output)
        return
    if update:
        _update(inputs, out, how, encoder, device, dtype, output)
        return
    read = read_collection(inputs, how, output)
    # What stands in the way of saving is found before the passages are embedded, not after.
    with prepared_folder(out):
        read = _begun(read, required=not add)
        if add:
            summary = _add(read, out, encoder, on_duplicate, device, dtype, output)
        else:
            summary = _build(
                read,
                out,
                "Flat" if factory is None else factory,
                not no_lexical,
                encoder,
                on_duplicate,
                device,
                dtype,
                output,
            )
    _tell(summary, out, start, output)


def _tell(summary: dict[str, Any], out: Path, start: float, output: Output) -> None:
    summary["seconds"] = round(time.perf_counter() - start, 3)
    if output.json:
        output.document(summary)
    noun = "passage" if summary["passages"] == 1 else "passages"
    output.line(f"{out}: {summary['passages']:,} {noun} ({summary['added']:,} new) in {summary['seconds']:.1f} s")


def _begun(passages: Iterator[Passage], *, required: bool) -> Iterator[Passage]:
    """Read the first passage now: input that cannot be read shows before a model is loaded."""
    first = next(passages, None)
    if first is None and required:
        _common.fail("There are no passages to index in the input.")
    return passages if first is None else chain([first], passages)


def _build(
    passages: Iterator[Passage],
    out: Path,
    factory: str,
    lexical: bool,
    encoder: str | None,
    on_duplicate: OnDuplicate,
    device: str | None,
    dtype: str,
    output: Output,
) -> dict[str, Any]:
    from biorerank_plugins.first_stage import PassageIndex

    model = _common.load_encoder(encoder, device, dtype)
    output.note(f"Embedding passages with {model.model_id} …")
    with PassageIndex.build(
        passages,
        encoder=model,
        factory=factory,
        show_progress=output.show_progress,
        on_duplicate=on_duplicate.value,
        lexical=lexical,
    ) as built:
        built.save(out)
        return _summary(built, out, added=len(built))


def _add(
    passages: Iterator[Passage],
    out: Path,
    encoder: str | None,
    on_duplicate: OnDuplicate,
    device: str | None,
    dtype: str,
    output: Output,
) -> dict[str, Any]:
    from biorerank_plugins.first_stage import PassageIndex

    with _common.open_index(out, encoder=encoder, device=device, dtype=dtype) as opened:
        assert isinstance(opened, PassageIndex)  # check_target refused a sharded one
        added = opened.add(passages, on_duplicate=on_duplicate.value, show_progress=output.show_progress)
        return _summary(opened, out, added=added)


def _update(
    inputs: list[Path],
    out: Path,
    how: HowToRead,
    encoder: str | None,
    device: str | None,
    dtype: str,
    output: Output,
) -> None:
    changes = read_changes(inputs, how, output)
    with _common.open_index(out, encoder=encoder, device=device, dtype=dtype) as opened:
        report = opened.update(changes, show_progress=output.show_progress).to_dict()
        if output.json:
            output.document({**_summary(opened, out, added=report["added"]), **report})
        told = ", ".join(f"{count:,} {name}" for name, count in report.items() if count) or "nothing changed"
        output.line(f"{out}: {len(opened):,} passages; {told}")


def _summary(index: SearchableIndex, out: Path, *, added: int) -> dict[str, Any]:
    return {
        "folder": str(out),
        "passages": len(index),
        "added": added,
        "encoder": index.encoder.model_id,
        "lexical": index.lexical,
    }
