"""Bringing a sharded index up to date: new shards are written beside the old ones, one switch makes them the index."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from biorerank_plugins._common.files import sync_folder
from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage import changes, persistence
from biorerank_plugins.first_stage.catalog import Catalog
from biorerank_plugins.first_stage.changes import Change, UpdatePlan, UpdateReport, plan_update
from biorerank_plugins.first_stage.storage import writer_lock
from biorerank_plugins.passages import Deletion, Passage, PassageLike
from biorerank_plugins.scale.shard_layout import folder_after, read_layout, remove_leftovers, shard_of, write_layout
from biorerank_plugins.scale.shard_statistics import statistics_of, with_statistics

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.index import PassageIndex
    from biorerank_plugins.first_stage.persistence import Contents
    from biorerank_plugins.first_stage.protocol import Encoder

logger = logging.getLogger(__name__)


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
    :returns: how many were added, replaced, removed and so on.
    :raises PassageIndexError: if the folder holds another index by now, a shard of it is damaged, or it cannot be
        written.
    :raises ValueError: if a passage has no text.
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
                    _write(source, target, one.version, change, encoder)
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


def _write(source: Path, target: Path, version: str | None, change: Change, encoder: Encoder) -> None:
    """Write one shard anew: from its files, whose checksums are compared, so that no damage is taken over."""
    found, _ = persistence.read(source, encoder, "full")
    try:
        if found.version != version:
            raise PassageIndexError(f"The shard {source} was changed by somebody else since it was loaded.")
        persistence.write(target, found, encoder, change).catalog.close()
        sync_folder(target)
    finally:
        found.catalog.close()
