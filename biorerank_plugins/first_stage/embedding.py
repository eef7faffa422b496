"""Passages and queries become checked vectors, batch by batch, and those of a collection a vector store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from biorerank_plugins._common.progress import progress_bar
from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage.catalog import Catalog
from biorerank_plugins.first_stage.factory import Factory
from biorerank_plugins.first_stage.protocol import Encoder
from biorerank_plugins.first_stage.vectors import FloatArray, RowArray, VectorStore
from biorerank_plugins.passages import Passage

BATCH_SIZE = 1024
"""Passages in one call of the encoder: enough to sort them by length, few enough for a lively progress bar."""
OTHER_FORMS_SHARE = 0.5
"""Share of the vector of a query with the other forms of its abbreviations; ``benchmarks/quality/abbreviations.py``."""
_TRAINING_SEED = 20


def embed_all(
    catalog: Catalog, rows: RowArray, encoder: Encoder, *, batch_size: int, show_progress: bool
) -> Iterator[tuple[RowArray, FloatArray]]:
    """Embed the passages of these rows, in their order, ``batch_size`` in one call of the encoder."""
    with progress_bar(show_progress, total=len(rows), desc="Embedding", unit=" passages") as progress:
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            yield part, embed(catalog.in_order(part.tolist()), encoder)
            progress.update(len(part))


def embed(passages: list[Passage], encoder: Encoder) -> FloatArray:
    """Return checked vectors of passages.

    :raises PassageIndexError: if the encoder gives something else than finite vectors of its dimension.
    """
    return _checked(
        encoder.encode_passages(passages),
        len(passages),
        encoder,
        lambda broken: f"{len(broken)} passages: {', '.join(repr(passages[i].id) for i in broken[:5])}",
    )


def embed_queries(queries: list[str], encoder: Encoder, other_forms: Sequence[str]) -> FloatArray:
    """Return checked vectors of queries, embedded in one call.

    :param other_forms: of each query the other forms of its abbreviations, ``""`` where there are none: its vector is
        then a mean of that of the query and that of the query with them, as long as the former.
    :raises PassageIndexError: as :func:`embed`.
    """
    places = [place for place, own in enumerate(other_forms) if own]
    texts = [*queries, *(f"{queries[place]} {other_forms[place]}" for place in places)]
    encoded = encoder.encode_queries(texts)
    vectors = _checked(encoded, len(texts), encoder, lambda broken: f"the query {texts[broken[0]]!r:.80}")
    plain, expanded = vectors[: len(queries)], vectors[len(queries) :]
    mixed = (1 - OTHER_FORMS_SHARE) * plain[places] + OTHER_FORMS_SHARE * expanded
    lengths = np.linalg.norm(mixed, axis=1, keepdims=True)
    plain[places] = mixed * (np.linalg.norm(plain[places], axis=1, keepdims=True) / np.where(lengths > 0, lengths, 1))
    return plain


def _checked(vectors: Any, count: int, encoder: Encoder, blamed: Callable[[list[int]], str]) -> FloatArray:
    array = np.ascontiguousarray(vectors, dtype=np.float32)
    if array.shape != (count, encoder.dimension):
        raise PassageIndexError(
            f"The encoder {encoder.model_id} gives an array of shape {array.shape} for {count} texts, "
            f"expected ({count}, {encoder.dimension})."
        )
    broken = np.flatnonzero(~np.isfinite(array).all(axis=1)).tolist()
    if broken:
        raise PassageIndexError(
            f"The encoder {encoder.model_id} gives vectors that are not finite for {blamed(broken)}. "
            "Try dtype='float32'."
        )
    return array


def drain(batches: list[tuple[RowArray, FloatArray]]) -> Iterator[tuple[RowArray, FloatArray]]:
    """Yield each batch and let go of it, so that its vectors are not kept beside FAISS's copy."""
    batches.reverse()
    while batches:
        yield batches.pop()


def vector_store(
    catalog: Catalog, encoder: Encoder, factory: Factory, *, batch_size: int, show_progress: bool
) -> VectorStore:
    """Return the vectors of all passages of a catalog, ``batch_size`` of which are embedded at a time."""
    rows = catalog.rows()
    factory.check(len(rows), encoder.dimension)
    embed = partial(embed_all, catalog, encoder=encoder, batch_size=batch_size)
    # A collection is often sorted, and a sample to train on must not be its first part.
    order = np.random.default_rng(_TRAINING_SEED).permutation(rows)
    if factory.labelled:  # vectors go in by any order: it is trained on the first batches
        batches = embed(order, show_progress=show_progress)
        # No more than half where that is enough, so that sample and batches are not all embeddings twice.
        size = min(factory.training_size, max(factory.needed, len(rows) // 2))
        held: list[tuple[RowArray, FloatArray]] = []
        while sum(len(part) for part, _ in held) < size:
            held.append(next(batches))
        sample = [vectors for _, vectors in held]
        batches = chain(drain(held), batches)
    else:
        sample = [vectors for _, vectors in embed(np.sort(order[: factory.training_size]), show_progress=False)]
        batches = embed(rows, show_progress=show_progress)
    store = VectorStore.empty(factory, encoder.dimension, np.concatenate(sample) if sample else None)
    del sample
    store.reserve(len(rows))
    store.add(rows, batches)
    return store
