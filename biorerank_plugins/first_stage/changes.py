"""What adding and removing passages does to each part of an index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from biorerank_plugins.first_stage import embedding
from biorerank_plugins.first_stage.catalog import Catalog
from biorerank_plugins.first_stage.lexical import LexicalIndex, passage_texts
from biorerank_plugins.first_stage.vectors import RowArray, VectorStore

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.protocol import Encoder


@dataclass(frozen=True)
class Change:
    """One change, ready to be made: everything slow was done before, while searches went on.

    :param rows: rows that are added or removed.
    :param edit_catalog: makes it in the passages.
    :param edit_vectors: makes it in the vectors; once only.
    :param lexical: the lexical part after it; ``None`` if there is none.
    """

    rows: RowArray
    edit_catalog: Callable[[Catalog], None]
    edit_vectors: Callable[[VectorStore], None]
    lexical: LexicalIndex | None


def insertion(
    staged: Catalog,
    lexical: LexicalIndex | None,
    encoder: Encoder,
    *,
    batch_size: int,
    show_progress: bool,
) -> Change:
    """Embed and analyse passages that shall be added.

    :param staged: the passages, by their new rows.
    :param lexical: the lexical part so far.
    :param encoder: what embeds them.
    :param batch_size: passages that are embedded at a time.
    :param show_progress: whether to show a progress bar.
    """
    rows = staged.rows()
    batches = list(embedding.embed_all(staged, rows, encoder, batch_size=batch_size, show_progress=show_progress))
    return Change(
        rows,
        lambda catalog: catalog.insert(staged.passages()),
        lambda vectors: vectors.add(rows, embedding.drain(batches)),
        None if lexical is None else lexical.added(passage_texts(staged.passages(), encoder.config())),
    )


def one_after_the_other(first: Change, second: Change) -> Change:
    """Return two changes as one.

    :param first: say, a removal.
    :param second: say, an insertion, prepared on the lexical part that the first one leaves.
    """

    def edit_catalog(catalog: Catalog) -> None:
        first.edit_catalog(catalog)
        second.edit_catalog(catalog)

    def edit_vectors(vectors: VectorStore) -> None:
        first.edit_vectors(vectors)
        second.edit_vectors(vectors)

    return Change(second.rows, edit_catalog, edit_vectors, second.lexical)


def removal(rows: RowArray, lexical: LexicalIndex | None) -> Change:
    """Prepare the removal of passages.

    :param rows: their rows.
    :param lexical: the lexical part so far.
    """
    return Change(
        rows,
        lambda catalog: catalog.delete(rows.tolist()),
        lambda vectors: vectors.remove(rows),
        None if lexical is None else lexical.without(rows),
    )
