"""The shards of a new sharded index, written from one folder of vectors."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from biorerank_plugins._common.files import sync_folder
from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage.catalog import Catalog
from biorerank_plugins.first_stage.factory import Factory
from biorerank_plugins.first_stage.index import PassageIndex
from biorerank_plugins.first_stage.lexical import LexicalIndex, index_passages
from biorerank_plugins.first_stage.persistence import Contents
from biorerank_plugins.passages import Passage
from biorerank_plugins.scale.shard_layout import is_left_over, remove_leftovers, shard_name, shard_of, write_layout
from biorerank_plugins.scale.shard_statistics import statistics_of, with_statistics
from biorerank_plugins.scale.vectors import Embeddings, index_vectors

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.protocol import Encoder
    from biorerank_plugins.first_stage.vectors import RowArray

_AT_ONCE = 4096


def refuse_used(folder: Path) -> None:
    """Refuse a folder that holds more than what a build that was killed may have left there.

    :raises PassageIndexError: if so.
    """
    if folder.exists() and (not folder.is_dir() or any(not is_left_over(entry.name) for entry in folder.iterdir())):
        raise PassageIndexError(f"{folder} exists already. Build in a new folder, or remove this one first.")


def write_shards(
    folder: Path, embeddings: Embeddings, encoder: Encoder, *, shards: int, factory: Factory, lexical: bool
) -> None:
    """Write all shards of a new index from the passages and vectors of the whole collection.

    :raises PassageIndexError: if a shard gets too few passages.
    """
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
            _write_shard(folder / shard_name(number), part, catalog, factory, mine, encoder)
    write_layout(folder, [folder / shard_name(number) for number in range(shards)])
    sync_folder(folder)
    remove_leftovers(folder)


def _members(catalog: Catalog, shards: int) -> list[RowArray]:
    found: list[list[int]] = [[] for _ in range(shards)]
    for row, passage in catalog.passages():
        found[shard_of(passage.id, shards)].append(row)
    return [np.array(rows, dtype=np.int64) for rows in found]


def _rows_of(catalog: Catalog, rows: RowArray) -> Iterable[tuple[int, Passage]]:
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE].tolist()
        yield from zip(part, catalog.in_order(part), strict=True)


def _write_shard(
    folder: Path, part: Embeddings, catalog: Catalog, factory: Factory, words: LexicalIndex | None, encoder: Encoder
) -> None:
    """Write one shard; its rows keep the numbers they have in the whole collection, which decide ties."""
    vectors = index_vectors(part, factory, part.work.catalog.parent / "faiss")
    own = Catalog.in_memory()
    own.insert(_rows_of(catalog, part.wanted))
    with PassageIndex(Contents(vectors, own, factory, words), encoder) as index:
        index.save(folder)
