"""Passages on their way into an index: read and checked before the first of them is embedded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np

from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage import embedding
from biorerank_plugins.first_stage.catalog import Catalog
from biorerank_plugins.first_stage.factory import Factory
from biorerank_plugins.first_stage.lexical import index_passages
from biorerank_plugins.first_stage.persistence import Contents
from biorerank_plugins.first_stage.vectors import FloatArray, RowArray, VectorStore
from biorerank_plugins.passages import Candidate, Passage, PassageLike, as_candidate

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.protocol import Encoder

OnDuplicate = Literal["error", "skip"]
_CHECKED_AT_ONCE = 1024


def stage(
    passages: Iterable[PassageLike],
    *,
    first_row: int,
    on_duplicate: OnDuplicate,
    existing: Catalog | None = None,
) -> Catalog:
    """Read and check all passages before the first is embedded, which takes a thousand times longer.

    :param passages: what the caller gave; read once.
    :param first_row: row number for the first of them.
    :param on_duplicate: what to do with an id that comes again.
    :param existing: passages that are in the index already.
    :returns: a catalog in memory that holds them.
    :raises ValueError: if a passage has no text or an id comes again; the message names it.
    :raises TypeError: if ``passages`` is, or holds, something else.
    """
    staged = Catalog.in_memory()
    fill(staged, passages, first_row=first_row, on_duplicate=on_duplicate, existing=existing)
    return staged


def fill(
    catalog: Catalog,
    passages: Iterable[PassageLike],
    *,
    first_row: int = 0,
    on_duplicate: OnDuplicate,
    existing: Catalog | None = None,
) -> None:
    """Check passages and put them into an empty catalog; ids need no memory beside it, however many there are.

    The parameters are those of :func:`stage`.
    """
    if on_duplicate not in ("error", "skip"):
        raise ValueError(f"on_duplicate={on_duplicate!r} is unknown. Choose 'error' or 'skip'.")
    if isinstance(passages, (str, bytes, Passage, Candidate)):
        raise TypeError(f"Expected passages, got one {type(passages).__name__}: {passages!r:.80}. Put it in a list.")
    row = first_row
    for start, chunk in _chunks(passages):
        ids = [passage.id for passage in chunk]
        places = {id_: f"at position {found - first_row}" for id_, found in catalog.find(ids).items()}
        places |= dict.fromkeys(existing.find(ids) if existing is not None else (), "in the index")
        fresh = list(_fresh(chunk, start, places, on_duplicate))
        catalog.insert(enumerate(fresh, start=row))
        row += len(fresh)


def _fresh(chunk: list[Passage], start: int, places: dict[str, str], on_duplicate: OnDuplicate) -> Iterator[Passage]:
    """Give the passages of a chunk that are new; ``places`` says where others are, and is added to."""
    for position, passage in enumerate(chunk, start=start):
        if not passage.text.strip():
            raise ValueError(
                f"Passage {passage.id!r} (position {position}, counted from 0) has no text. "
                "Leave it out, or put what there is, such as the title, into its text."
            )
        if passage.id not in places:
            places[passage.id] = f"at position {position}"
            yield passage
        elif on_duplicate == "error":
            raise ValueError(
                f"Passage id {passage.id!r} at position {position} is {places[passage.id]} already (positions counted "
                "from 0). Ids must be unique; on_duplicate='skip' keeps the first."
            )


def _chunks(passages: Iterable[PassageLike]) -> Iterator[tuple[int, list[Passage]]]:
    chunk: list[Passage] = []
    start = 0
    for position, item in enumerate(passages):
        chunk.append(as_candidate(item, position).passage)
        if len(chunk) == _CHECKED_AT_ONCE:
            yield start, chunk
            start, chunk = position + 1, []
    if chunk:
        yield start, chunk


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
    catalog = stage(passages, first_row=0, on_duplicate=on_duplicate)
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
