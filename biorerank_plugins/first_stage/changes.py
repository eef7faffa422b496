"""What adding, removing and updating passages does to each part of an index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from biorerank_plugins.first_stage import embedding
from biorerank_plugins.first_stage.catalog import Catalog
from biorerank_plugins.first_stage.lexical import LexicalIndex, passage_texts
from biorerank_plugins.first_stage.vectors import RowArray, VectorStore
from biorerank_plugins.passages import Deletion, Passage, PassageLike, as_candidate

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


def replacement(
    outdated: RowArray,
    staged: Catalog,
    lexical: LexicalIndex | None,
    encoder: Encoder,
    *,
    batch_size: int,
    show_progress: bool,
) -> Change:
    """Prepare a removal and an addition as one change.

    :param outdated: rows that go; there may be none.
    :param staged: passages that come, by their new rows; there may be none.
    :param lexical: the lexical part so far.
    :param encoder: what embeds them.
    :param batch_size: passages that are embedded at a time.
    :param show_progress: whether to show a progress bar.
    """
    first = removal(outdated, lexical) if len(outdated) else None
    left = lexical if first is None else first.lexical
    second = None
    if len(staged):
        second = insertion(staged, left, encoder, batch_size=batch_size, show_progress=show_progress)
    parts = [part for part in (first, second) if part is not None]

    def edit_catalog(catalog: Catalog) -> None:
        for part in parts:
            part.edit_catalog(catalog)

    def edit_vectors(vectors: VectorStore) -> None:
        for part in parts:
            part.edit_vectors(vectors)

    rows = np.concatenate([outdated, staged.rows()])
    return Change(rows, edit_catalog, edit_vectors, left if second is None else second.lexical)


_LOOKED_UP_AT_ONCE = 1024


class Stored(Protocol):
    """Passages that an index holds, or several that are one."""

    def find(self, ids: Iterable[str]) -> dict[str, int]:
        """Return the row of every id that is there."""
        ...

    def fetch(self, rows: Sequence[int]) -> dict[int, Passage]:
        """Return the passages of these rows."""
        ...


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """What an update did.

    :param added: passages that are new.
    :param replaced: passages that took the place of another version.
    :param removed: passages that were deleted.
    :param retracted: of those added and replaced, the ones that are called retracted and were not before.
    :param unchanged: passages that the index holds already, word for word.
    :param older: passages left out because the index holds a later version.
    :param unknown: deletions of what the index does not hold.
    """

    added: int = 0
    replaced: int = 0
    removed: int = 0
    retracted: int = 0
    unchanged: int = 0
    older: int = 0
    unknown: int = 0

    def to_dict(self) -> dict[str, int]:
        """Return the numbers by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class UpdatePlan:
    """One change.

    :param passages: to be added.
    :param outdated: ids of passages in the index that go: those that are replaced, and those that are deleted.
    :param report: what it will have done.
    """

    passages: list[Passage]
    outdated: list[str]
    report: UpdateReport


def plan_update(changes: Iterable[PassageLike | Deletion], existing: Stored) -> UpdatePlan:
    """Work out what an update does: of one id the last word counts.

    :param changes: passages and deletions, in the order in which they hold.
    :param existing: what the index holds.
    :raises TypeError: if something is neither.
    :raises ValueError: if a passage has no text.
    """
    last: dict[str, Passage | None] = {}
    for position, change in enumerate(changes):
        if isinstance(change, Deletion):
            last[change.id] = None
            continue
        passage = as_candidate(change, position).passage
        if not passage.text.strip():
            raise ValueError(f"Passage {passage.id!r} (position {position}, counted from 0) has no text.")
        before = last.get(passage.id)
        if before is None or _version(passage) >= _version(before):
            last[passage.id] = passage
    return _compared(last, existing)


def _compared(last: dict[str, Passage | None], existing: Stored) -> UpdatePlan:
    passages: list[Passage] = []
    outdated: list[str] = []
    counts = dict.fromkeys(asdict(UpdateReport()), 0)
    ids = list(last)
    for start in range(0, len(ids), _LOOKED_UP_AT_ONCE):
        part = ids[start : start + _LOOKED_UP_AT_ONCE]
        rows = existing.find(part)
        stored = existing.fetch(list(rows.values()))
        for id_ in part:
            wanted, there = last[id_], stored[rows[id_]] if id_ in rows else None
            counts[_kind(wanted, there)] += 1
            if wanted is None:
                outdated += [id_] if there is not None else []
            elif there is None or _kind(wanted, there) == "replaced":
                passages.append(wanted)
                outdated += [id_] if there is not None else []
                counts["retracted"] += _is_retracted(wanted) and not (there is not None and _is_retracted(there))
    return UpdatePlan(passages, outdated, UpdateReport(**counts))


def _kind(wanted: Passage | None, there: Passage | None) -> str:
    if wanted is None:
        return "unknown" if there is None else "removed"
    if there is None:
        return "added"
    if _version(wanted) < _version(there):
        return "older"
    same = (wanted.text, wanted.title, wanted.to_dict()["metadata"])
    return "unchanged" if same == (there.text, there.title, there.to_dict()["metadata"]) else "replaced"


def _version(passage: Passage) -> float:
    version: Any = passage.metadata.get("version")
    return float(version) if isinstance(version, (int, float)) and not isinstance(version, bool) else 0.0


def _is_retracted(passage: Passage) -> bool:
    return passage.metadata.get("retracted") is True
