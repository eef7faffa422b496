"""Passages on their way into an index: read and checked before the first of them is embedded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Literal

import numpy as np

from biorerank_plugins.first_stage import embedding
from biorerank_plugins.first_stage.catalog import Catalog
from biorerank_plugins.first_stage.factory import Factory
from biorerank_plugins.first_stage.stored_passage import passage_at
from biorerank_plugins.first_stage.vectors import FloatArray, RowArray, VectorStore
from biorerank_plugins.passages import Candidate, Passage, PassageLike

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.protocol import Encoder

OnDuplicate = Literal["error", "skip"]
_CHECKED_AT_ONCE = 1024


def fill(
    catalog: Catalog,
    passages: Iterable[PassageLike],
    *,
    first_row: int = 0,
    on_duplicate: OnDuplicate,
    existing: Catalog | None = None,
) -> Catalog:
    """Read and check all passages before the first is embedded, which takes a thousand times longer.

    :param catalog: an empty one; ids need no memory beside it, however many there are.
    :param passages: what the caller gave; read once.
    :param first_row: row number for the first of them.
    :param on_duplicate: what to do with an id that comes again.
    :param existing: passages that are in the index already.
    :returns: the catalog, which holds them.
    :raises ValueError: if a passage has no text or an id comes again; the message names it.
    :raises TypeError: if ``passages`` is, or holds, something else.
    """
    if on_duplicate not in ("error", "skip"):
        raise ValueError(f"on_duplicate={on_duplicate!r} is unknown. Choose 'error' or 'skip'.")
    if isinstance(passages, (str, bytes, Passage, Candidate)):
        raise TypeError(f"Expected passages, got one {type(passages).__name__}: {passages!r:.80}. Put it in a list.")
    row = first_row
    numbered = enumerate(passages)
    while chunk := {at: passage_at(at, item) for at, item in islice(numbered, _CHECKED_AT_ONCE)}:
        ids = [passage.id for passage in chunk.values()]
        places = {id_: f"at position {found - first_row}" for id_, found in catalog.find(ids).items()}
        places |= dict.fromkeys(existing.find(ids) if existing is not None else (), "in the index")
        fresh = list(_fresh(chunk, places, on_duplicate))
        catalog.insert(enumerate(fresh, start=row))
        row += len(fresh)
    return catalog


def _fresh(chunk: dict[int, Passage], places: dict[str, str], on_duplicate: OnDuplicate) -> Iterator[Passage]:
    """Give the passages of a chunk that are new; ``places`` says where others are, and is added to."""
    for position, passage in chunk.items():
        if passage.id not in places:
            places[passage.id] = f"at position {position}"
            yield passage
        elif on_duplicate == "error":
            raise ValueError(
                f"Passage id {passage.id!r} at position {position} is {places[passage.id]} already (positions counted "
                "from 0). Ids must be unique; on_duplicate='skip' keeps the first."
            )


_TRAINING_SEED = 20


def embedded(
    catalog: Catalog, encoder: Encoder, factory: Factory, *, batch_size: int, show_progress: bool
) -> VectorStore:
    """Return the vectors of all passages of a catalog, ``batch_size`` of which are embedded at a time.

    :raises PassageIndexError: if there are too few passages for the factory.
    """
    rows = catalog.rows()
    factory.check(len(rows), encoder.dimension)
    embed = partial(embedding.embed_all, catalog, encoder=encoder, batch_size=batch_size)
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
        batches = chain(embedding.drain(held), batches)
    else:
        sample = [vectors for _, vectors in embed(np.sort(order[: factory.training_size]), show_progress=False)]
        batches = embed(rows, show_progress=show_progress)
    store = VectorStore.empty(factory, encoder.dimension, np.concatenate(sample) if sample else None)
    del sample
    store.reserve(len(rows))
    store.add(rows, batches)
    return store
