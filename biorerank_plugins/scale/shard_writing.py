"""The shards of a sharded index are written: all of a new one, or new ones beside the old, until one switch."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from biorerank_plugins._common.files import sync_folder
from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage import changes, persistence
from biorerank_plugins.first_stage.catalog import Catalog
from biorerank_plugins.first_stage.changes import Change, UpdatePlan, UpdateReport, plan_update
from biorerank_plugins.first_stage.factory import Factory
from biorerank_plugins.first_stage.index import PassageIndex
from biorerank_plugins.first_stage.lexical import LexicalIndex, index_passages
from biorerank_plugins.first_stage.persistence import Contents
from biorerank_plugins.first_stage.protocol import Encoder
from biorerank_plugins.first_stage.storage import writer_lock
from biorerank_plugins.first_stage.vectors import RowArray
from biorerank_plugins.passages import Deletion, Passage, PassageLike
from biorerank_plugins.scale.shard_layout import (
    folder_after,
    is_left_over,
    read_layout,
    remove_leftovers,
    shard_name,
    shard_of,
    write_layout,
)
from biorerank_plugins.scale.shard_statistics import statistics_of, with_statistics
from biorerank_plugins.scale.vectors import Embeddings, index_vectors

logger = logging.getLogger(__name__)

_AT_ONCE = 4096


def refuse_used(folder: Path) -> None:
    """Refuse a folder that holds more than what a build that was killed may have left there."""
    if folder.exists() and (not folder.is_dir() or any(not is_left_over(entry.name) for entry in folder.iterdir())):
        raise PassageIndexError(f"{folder} exists already. Build in a new folder, or remove this one first.")


def write_shards(
    folder: Path, embeddings: Embeddings, encoder: Encoder, *, shards: int, factory: Factory, lexical: bool
) -> None:
    """Write all shards of a new index from the passages and vectors of the whole collection, whose folder goes."""
    with closing(Catalog.open(embeddings.work.catalog)) as catalog:
        members = _members(catalog, shards)
        if not all(map(len, members)):
            raise PassageIndexError(
                f"{embeddings.work.count} passages leave one of {shards} shards empty. Take fewer shards."
            )
        for rows in members:
            factory.check(len(rows), encoder.dimension)
        words = [index_passages(_rows_of(catalog, rows), encoder.config()) for rows in members] if lexical else []
        whole = statistics_of(words)
        folder.mkdir(parents=True, exist_ok=True)
        for number, rows in enumerate(members):
            part = Embeddings(embeddings.work, embeddings.shards, rows)
            mine = with_statistics(words[number], whole) if lexical else None
            _write_new(folder / shard_name(number), part, catalog, factory, mine, encoder)
    write_layout(folder, [folder / shard_name(number) for number in range(shards)])
    sync_folder(folder)
    remove_leftovers(folder)
    shutil.rmtree(embeddings.work.catalog.parent, ignore_errors=True)


def _members(catalog: Catalog, shards: int) -> list[RowArray]:
    found: list[list[int]] = [[] for _ in range(shards)]
    for row, passage in catalog.passages():
        found[shard_of(passage.id, shards)].append(row)
    return [np.array(rows, dtype=np.int64) for rows in found]


def _rows_of(catalog: Catalog, rows: RowArray) -> Iterable[tuple[int, Passage]]:
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE].tolist()
        yield from zip(part, catalog.in_order(part), strict=True)


def _write_new(
    folder: Path, part: Embeddings, catalog: Catalog, factory: Factory, words: LexicalIndex | None, encoder: Encoder
) -> None:
    """Write one shard; its rows keep the numbers they have in the whole collection, which decide ties."""
    vectors = index_vectors(part, factory, part.work.catalog.parent / "faiss")
    own = Catalog.in_memory()
    own.insert(_rows_of(catalog, part.wanted))
    with PassageIndex(Contents(vectors, own, factory, words), encoder) as index:
        index.save(folder)


def update_shards(
    folder: Path,
    shards: Mapping[str, PassageIndex],
    changes_of_files: Iterable[PassageLike | Deletion],
    *,
    batch_size: int,
    show_progress: bool,
) -> UpdateReport:
    """Write what a sharded index is after an update, all of it or nothing; the indexes given stay as they are.

    With a lexical part every shard is written anew, because new texts change how much a word weighs everywhere.

    :param shards: all its shards, open, by name.
    :param changes_of_files: as :meth:`~biorerank_plugins.PassageIndex.update` takes them.
    :raises PassageIndexError: if the folder holds another index by now, a shard of it is damaged, or it cannot be
        written.
    """
    with writer_lock(folder), ExitStack() as stack:
        layout = read_layout(folder)
        if {name: index.folder for name, index in shards.items()} != layout:
            raise PassageIndexError(
                f"The index in {folder} was changed by somebody else since it was loaded. Load it again."
            )
        remove_leftovers(folder)
        contents = [stack.enter_context(index.reading()) for index in shards.values()]
        plan = plan_update(changes_of_files, [one.catalog for one in contents])
        if plan.passages or plan.outdated:
            encoder = next(iter(shards.values())).encoder
            wanted = _changes(plan, contents, encoder, batch_size=batch_size, show_progress=show_progress)
            _switch(folder, list(layout.values()), contents, wanted, encoder)
        return plan.report


def _changes(
    plan: UpdatePlan, contents: Sequence[Contents], encoder: Encoder, *, batch_size: int, show_progress: bool
) -> list[Change]:
    """Return what changes in each shard; new passages are numbered over all shards, which decides ties."""
    members: list[list[tuple[int, Passage]]] = [[] for _ in contents]
    for row, passage in enumerate(plan.passages, start=max(one.vectors.next_row for one in contents)):
        members[shard_of(passage.id, len(contents))].append((row, passage))
    prepared = partial(changes.prepared, encoder=encoder, batch_size=batch_size, show_progress=show_progress)
    wanted = []
    for one, rows in zip(contents, members, strict=True):
        staged = Catalog.in_memory()
        staged.insert(rows)
        wanted.append(prepared(one.catalog.rows_of(plan.outdated, "skip"), staged, one.lexical))
    words = [change.lexical for change in wanted if change.lexical is not None]
    if not words:
        return wanted
    whole = statistics_of(words)
    return [
        replace(change, lexical=with_statistics(lexical, whole)) for change, lexical in zip(wanted, words, strict=True)
    ]


def _switch(
    folder: Path, old: Sequence[Path], contents: Sequence[Contents], wanted: Sequence[Change], encoder: Encoder
) -> None:
    touched = [bool(len(change.rows)) or change.lexical is not None for change in wanted]
    new = [folder_after(path) if is_new else path for path, is_new in zip(old, touched, strict=True)]
    try:
        with persistence.explained(folder):
            for source, target, one, change in zip(old, new, contents, wanted, strict=True):
                if target != source:
                    _write_anew(source, target, one.version, change, encoder)
            write_layout(folder, new)
    except BaseException:
        remove_leftovers(folder)
        raise
    try:
        sync_folder(folder)
    except OSError as error:  # too late to fail: readers see the new shards already; the old ones stay till the next
        logger.warning("The new shards are in use, but %s could not be synced: %s", folder, error)
    else:
        remove_leftovers(folder)


def _write_anew(source: Path, target: Path, version: str | None, change: Change, encoder: Encoder) -> None:
    """Write one shard anew: from its files, whose checksums are compared, so that no damage is taken over."""
    found, _ = persistence.read(source, encoder, "full")
    try:
        if found.version != version:
            raise PassageIndexError(f"The shard {source} was changed by somebody else since it was loaded.")
        persistence.write(target, found, encoder, change).catalog.close()
        sync_folder(target)
    finally:
        found.catalog.close()
