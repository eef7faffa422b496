"""From passages to the contents of a new index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage import embedding, staging
from biorerank_plugins.first_stage.factory import Factory
from biorerank_plugins.first_stage.lexical import index_passages
from biorerank_plugins.first_stage.persistence import Contents
from biorerank_plugins.first_stage.staging import OnDuplicate
from biorerank_plugins.first_stage.vectors import FloatArray, RowArray, VectorStore
from biorerank_plugins.passages import PassageLike

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.protocol import Encoder

_TRAINING_SEED = 20


def build(
    passages: Iterable[PassageLike],
    encoder: Encoder | None,
    factory: Factory,
    *,
    batch_size: int,
    show_progress: bool,
    on_duplicate: OnDuplicate,
    with_lexical: bool,
) -> tuple[Contents, Encoder]:
    """Check, embed and index passages.

    The parameters are those of :meth:`~biorerank_plugins.first_stage.PassageIndex.build`; ``with_lexical`` is its
    ``lexical``.

    :returns: what the index holds, and the encoder it was built with.
    """
    catalog = staging.stage(passages, first_row=0, on_duplicate=on_duplicate)
    rows = catalog.rows()
    if not len(rows):
        raise PassageIndexError("There are no passages to index: the collection is empty.")
    if encoder is None:
        from biorerank_plugins.first_stage.encoder import BiEncoder

        encoder = BiEncoder()
    factory.check(len(rows), encoder.dimension)
    # A collection is often sorted, and a sample to train on must not be its first part.
    order = np.random.default_rng(_TRAINING_SEED).permutation(rows)
    if factory.training_size and not factory.labelled:  # vectors go in by order, so that the sample is embedded apart
        picked = np.sort(order[: factory.training_size])
        parts = embedding.embed_all(catalog, picked, encoder, batch_size=batch_size, show_progress=False)
        sample = np.concatenate([vectors for _, vectors in parts])
        batches = embedding.embed_all(catalog, rows, encoder, batch_size=batch_size, show_progress=show_progress)
        vectors = _filled(VectorStore.empty(factory, encoder.dimension, sample), rows, batches)
    else:
        order = order if factory.training_size else rows
        batches = embedding.embed_all(catalog, order, encoder, batch_size=batch_size, show_progress=show_progress)
        vectors = _fill(factory, encoder.dimension, rows, batches)
    words = index_passages(catalog.passages(), encoder.config()) if with_lexical else None
    return Contents(vectors, catalog, factory, words), encoder


def _fill(kind: Factory, dimension: int, rows: RowArray, batches: Iterator[tuple[RowArray, FloatArray]]) -> VectorStore:
    """Make a store of embedded passages; where it needs training, on the first batches, which come in random order."""
    held: list[tuple[RowArray, FloatArray]] = []
    # No more than half where that is enough, so that sample and batches are not all embeddings twice.
    training_size = min(kind.training_size, max(kind.needed, len(rows) // 2))
    while sum(len(part) for part, _ in held) < training_size:
        held.append(next(batches))
    sample = np.concatenate([vectors for _, vectors in held]) if held else None
    store = VectorStore.empty(kind, dimension, sample)
    del sample

    def held_and_coming() -> Iterator[tuple[RowArray, FloatArray]]:
        yield from embedding.drain(held)
        yield from batches

    return _filled(store, rows, held_and_coming())


def _filled(store: VectorStore, rows: RowArray, batches: Iterator[tuple[RowArray, FloatArray]]) -> VectorStore:
    store.reserve(len(rows))
    store.add(rows, batches)
    return store
