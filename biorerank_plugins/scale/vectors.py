"""Embedding shards become a FAISS index: train on a sample, add shard by shard, merge inverted lists on disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from biorerank_plugins._common.files import TEMPORARY, write_whole
from biorerank_plugins.errors import PassageIndexError, ShardError
from biorerank_plugins.first_stage.factory import Factory, faiss
from biorerank_plugins.first_stage.vectors import FloatArray, RowArray, VectorStore
from biorerank_plugins.first_stage.verification import LISTS_FILE
from biorerank_plugins.scale.shard_folder import ShardFolder
from biorerank_plugins.scale.shards import Work

_SEED = 20  # as for an index that is built in memory


@dataclass(frozen=True)
class Embeddings:
    """The vectors of all shards, or those of some of their rows, ascending."""

    work: Work
    shards: ShardFolder
    rows: RowArray | None = None

    @property
    def wanted(self) -> RowArray:
        """Rows that are wanted, ascending."""
        return np.arange(self.work.count, dtype=np.int64) if self.rows is None else self.rows

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self.shards.job["dimension"])

    def parts(self, rows: RowArray | None = None) -> Iterator[tuple[int, RowArray, FloatArray]]:
        """Yield shard by shard its number, rows and vectors, of the wanted rows or of these."""
        rows = self.wanted if rows is None else rows
        for number in self.work.numbers:
            span = self.work.rows(number)
            first, end = np.searchsorted(rows, [span.start, span.stop])
            if first == end:
                continue
            vectors = self.shards.load(number)["embeddings"]
            if vectors.shape != (len(span), self.dimension):
                raise ShardError(f"Shard {number} has vectors of shape {vectors.shape}, expected {len(span)} of them.")
            part = rows[first:end]
            yield number, part, vectors if len(part) == len(span) else vectors[part - span.start]

    def sample(self, size: int) -> FloatArray:
        """Return vectors of ``size`` random rows, the same ones each time."""
        order = np.random.default_rng(_SEED).permutation(self.wanted)
        return np.concatenate([vectors for _, _, vectors in self.parts(np.sort(order[:size]))])


def index_vectors(
    embeddings: Embeddings, factory: Factory, folder: Path, *, lists_on_disk: bool = False
) -> VectorStore:
    """Build a FAISS index of shards; IVF goes on where a killed run stopped.

    :param folder: for what is made on the way: the trained index, and the lists of each shard.
    :param lists_on_disk: whether inverted lists are merged into a file and stay there, so that the index may be larger
        than the memory; it cannot be changed then.
    :raises PassageIndexError: if there are too few vectors for the factory, or lists are wanted of a type without them.
    """
    rows = embeddings.wanted
    factory.check(len(rows), embeddings.dimension)
    if lists_on_disk and not factory.labelled:
        raise PassageIndexError(
            f"factory={factory.text!r} has no lists to keep on disk. Use IVF<lists>,Flat or …,PQ<bytes>."
        )
    if not factory.labelled:
        sample = embeddings.sample(factory.training_size) if factory.training_size else None
        store = VectorStore.empty(factory, embeddings.dimension, sample)
        del sample
        store.reserve(len(rows))
        store.add(rows, ((part, vectors) for _, part, vectors in embeddings.parts()))
        return store
    folder.mkdir(parents=True, exist_ok=True)
    trained = _trained(embeddings, factory, folder)
    parts = [_added(trained, number, part, vectors) for number, part, vectors in embeddings.parts()]
    index = faiss.read_index(str(trained))
    lists_file = folder / LISTS_FILE if lists_on_disk else None
    if lists_file is not None:
        _merge_on_disk(index, parts, lists_file)
    else:
        for path in parts:
            index.merge_from(faiss.read_index(str(path)), 0)
    return VectorStore(index, factory, rows, np.empty(0, dtype=np.int64), lists_file=lists_file)


def _trained(embeddings: Embeddings, factory: Factory, folder: Path) -> Path:
    """Train, unless that was done for the same rows; the file is named by its content, and so are the parts."""
    about = f"{factory.text} {embeddings.dimension} ".encode() + embeddings.wanted.tobytes()
    path = folder / f"trained-{hashlib.sha256(about).hexdigest()[:16]}.faiss"
    if not path.exists():
        # k-means asks for so many; more make no better lists.
        sample = embeddings.sample(factory.training_size)
        index = factory.make(embeddings.dimension)
        index.train(sample)
        write_whole(path, faiss.serialize_index(index).tobytes())
    return path


def _added(trained: Path, number: int, rows: RowArray, vectors: FloatArray) -> Path:
    """Write the lists of one shard, unless they are there."""
    path = trained.with_name(f"{trained.stem}-{number:08d}.faiss")
    if not path.exists():
        index = faiss.read_index(str(trained))
        index.add_with_ids(np.ascontiguousarray(vectors), rows)
        write_whole(path, faiss.serialize_index(index).tobytes())
    return path


def _merge_on_disk(index: Any, parts: list[Path], lists_file: Path) -> None:
    """Put the lists of all parts into one file and let ``index`` read them from there; memory stays small."""
    from faiss.contrib.ondisk import merge_ondisk

    unfinished = lists_file.with_name(f"{TEMPORARY}{lists_file.name}")
    unfinished.unlink(missing_ok=True)
    here = os.fspath(unfinished)
    merge_ondisk(index, [os.fspath(path) for path in parts], here)
    lists = faiss.downcast_InvertedLists(index.invlists)
    os.replace(unfinished, lists_file)  # what is mapped into the memory follows its file
    lists.filename = os.fspath(lists_file)
