"""Building the shards of a sharded index, by way of one folder of vectors."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from biorerank_plugins._common.files import sync_folder
from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage.catalog import Catalog
from biorerank_plugins.first_stage.factory import Factory, parse_factory
from biorerank_plugins.first_stage.index import PassageIndex
from biorerank_plugins.first_stage.lexical import LexicalIndex, index_passages
from biorerank_plugins.first_stage.persistence import Contents
from biorerank_plugins.passages import Passage, PassageLike
from biorerank_plugins.scale.build import embedded, work_folder
from biorerank_plugins.scale.shard_layout import is_left_over, remove_leftovers, shard_name, shard_of, write_layout
from biorerank_plugins.scale.shard_statistics import statistics_of, with_statistics
from biorerank_plugins.scale.shards import SHARD_SIZE
from biorerank_plugins.scale.vectors import Embeddings, index_vectors

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.protocol import Encoder
    from biorerank_plugins.first_stage.vectors import RowArray
    from biorerank_plugins.scale.build import Engine
    from biorerank_plugins.scale.ray_engine import RayOptions

_AT_ONCE = 4096


def write_shards(
    passages: Iterable[PassageLike],
    folder: Path,
    *,
    shards: int,
    encoder: Encoder | None,
    factory: str,
    lexical: bool,
    engine: Engine,
    ray_options: RayOptions | None,
    on_duplicate: Literal["error", "skip"],
    show_progress: bool,
) -> Encoder:
    """Build all shards; the parameters are those of :meth:`ShardedIndex.build`.

    :returns: the encoder they were built with.
    """
    kind = parse_factory(factory)
    if folder.exists() and (not folder.is_dir() or any(not is_left_over(entry.name) for entry in folder.iterdir())):
        raise PassageIndexError(f"{folder} exists already. Build in a new folder, or remove this one first.")
    embeddings, chosen = embedded(
        passages,
        work_folder(folder),
        encoder,
        engine=engine,
        ray_options=ray_options,
        shard_size=SHARD_SIZE,
        on_duplicate=on_duplicate,
        identity=None,
        show_progress=show_progress,
    )
    catalog = Catalog.open(embeddings.work.catalog)
    try:
        members = _members(catalog, shards)
        _check_sizes(members, kind, chosen.dimension)
        words = [index_passages(_rows_of(catalog, rows), chosen.config()) for rows in members] if lexical else []
        whole = statistics_of(words)
        folder.mkdir(parents=True, exist_ok=True)
        for number, rows in enumerate(members):
            part = Embeddings(embeddings.work, embeddings.shards, rows)
            mine = with_statistics(words[number], whole) if lexical else None
            _write_shard(folder / shard_name(number), part, catalog, kind, mine, chosen)
    finally:
        catalog.close()
    write_layout(folder, [folder / shard_name(number) for number in range(shards)])
    sync_folder(folder)
    remove_leftovers(folder)
    shutil.rmtree(work_folder(folder), ignore_errors=True)
    return chosen


def _members(catalog: Catalog, shards: int) -> list[RowArray]:
    found: list[list[int]] = [[] for _ in range(shards)]
    for row, passage in catalog.passages():
        found[shard_of(passage.id, shards)].append(row)
    return [np.array(rows, dtype=np.int64) for rows in found]


def _check_sizes(members: list[RowArray], factory: Factory, dimension: int) -> None:
    if not all(len(rows) for rows in members):
        total = sum(map(len, members))
        raise PassageIndexError(f"{total} passages leave one of {len(members)} shards empty. Take fewer shards.")
    for rows in members:
        factory.check(len(rows), dimension)


def _rows_of(catalog: Catalog, rows: RowArray) -> Iterable[tuple[int, Passage]]:
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE].tolist()
        found = catalog.fetch(part)
        yield from ((row, found[row]) for row in part)


def _write_shard(
    folder: Path, part: Embeddings, catalog: Catalog, factory: Factory, words: LexicalIndex | None, encoder: Encoder
) -> None:
    """Write one shard; its rows keep the numbers they have in the whole collection, which decide ties."""
    vectors = index_vectors(part, factory, part.work.catalog.parent / "faiss")
    own = Catalog.in_memory()
    own.insert(_rows_of(catalog, part.wanted))
    with PassageIndex(Contents(vectors, own, factory, words), encoder) as index:
        index.save(folder)
