"""What adding and removing passages does to each part of an index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from biorerank_plugins.first_stage import embedding
from biorerank_plugins.first_stage.catalog import Catalog
from biorerank_plugins.first_stage.lexical import LexicalIndex, passage_texts
from biorerank_plugins.first_stage.token_ids import PassageTokenIds
from biorerank_plugins.first_stage.vectors import RowArray, VectorStore

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.protocol import Encoder

__all__ = ["Change", "insertion", "new_token_ids", "removal"]


@dataclass(frozen=True)
class Change:
    """One change, ready to be made: everything slow was done before, while searches went on.

    :param rows: rows that are added or removed.
    :param edit_catalog: makes it in the passages.
    :param edit_vectors: makes it in the vectors; once only.
    :param lexical: the lexical part after it; ``None`` if there is none.
    :param token_ids: the passages' token ids after it; ``None`` if there are none.
    """

    rows: RowArray
    edit_catalog: Callable[[Catalog], None]
    edit_vectors: Callable[[VectorStore], None]
    lexical: LexicalIndex | None
    token_ids: PassageTokenIds | None


def insertion(
    staged: Catalog,
    lexical: LexicalIndex | None,
    token_ids: PassageTokenIds | None,
    encoder: Encoder,
    *,
    batch_size: int,
    show_progress: bool,
) -> Change:
    """Embed and analyse passages that shall be added.

    :param staged: the passages, by their new rows.
    :param lexical: the lexical part so far.
    :param token_ids: the token ids so far.
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
        None if token_ids is None else token_ids.added(staged.passages()),
    )


def removal(
    rows: RowArray, catalog: Catalog, lexical: LexicalIndex | None, token_ids: PassageTokenIds | None
) -> Change:
    """Prepare the removal of passages.

    :param rows: their rows.
    :param catalog: the passages so far.
    :param lexical: the lexical part so far.
    :param token_ids: the token ids so far.
    """
    return Change(
        rows,
        lambda catalog: catalog.delete(rows.tolist()),
        lambda vectors: vectors.remove(rows),
        None if lexical is None else lexical.without(rows),
        None if token_ids is None else token_ids.without(rows, catalog.passages()),
    )


def new_token_ids(token_ids: PassageTokenIds, lexical: LexicalIndex | None) -> Change:
    """Prepare the storing of token ids; all else stays as it is.

    :param token_ids: the new ones.
    :param lexical: the lexical part so far.
    """
    return Change(np.empty(0, np.int64), lambda catalog: None, lambda vectors: None, lexical, token_ids)
