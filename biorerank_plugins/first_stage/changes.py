"""Passages that come and go: checked on their way in, and what a change does to each part of an index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np

from biorerank_plugins.first_stage import embedding
from biorerank_plugins.first_stage.catalog import Catalog
from biorerank_plugins.first_stage.lexical import LexicalIndex, passage_texts
from biorerank_plugins.first_stage.protocol import Encoder
from biorerank_plugins.first_stage.vectors import RowArray, VectorStore
from biorerank_plugins.passages import Candidate, Deletion, Passage, PassageLike, as_candidate

OnDuplicate = Literal["error", "skip"]
_LOOKED_UP_AT_ONCE = 1024


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
    :param first_row: row number for the first of them.
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
    while chunk := {at: _passage_at(at, item) for at, item in islice(numbered, _LOOKED_UP_AT_ONCE)}:
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


def _passage_at(position: int, item: PassageLike) -> Passage:
    """Return what somebody wants in an index as a passage; its place is for the message, and the id of a string."""
    passage = as_candidate(item, position).passage
    if not passage.text.strip():
        raise ValueError(
            f"Passage {passage.id!r} (position {position}, counted from 0) has no text. "
            "Leave it out, or put what there is, such as the title, into its text."
        )
    return passage


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


def prepared(
    outdated: RowArray,
    staged: Catalog,
    lexical: LexicalIndex | None,
    encoder: Encoder,
    *,
    batch_size: int = embedding.BATCH_SIZE,
    show_progress: bool = False,
) -> Change:
    """Embed and analyse the passages that come, by their new rows; those of the outdated rows go."""
    new = staged.rows()
    show = show_progress and len(new) > 0
    batches = list(embedding.embed_all(staged, new, encoder, batch_size=batch_size, show_progress=show))
    if lexical is not None and len(outdated):
        lexical = lexical.without(outdated)
    if lexical is not None and len(new):
        lexical = lexical.added(passage_texts(staged.passages(), encoder.config()))

    def edit_catalog(catalog: Catalog) -> None:
        catalog.delete(outdated.tolist())
        catalog.insert(staged.passages())

    def edit_vectors(vectors: VectorStore) -> None:
        if len(outdated):
            vectors.remove(outdated)
        if len(new):
            vectors.add(new, embedding.drain(batches))

    return Change(np.concatenate([outdated, new]), edit_catalog, edit_vectors, lexical)


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
    """An update before it is made: what is added, and the ids of what goes, replaced or deleted."""

    passages: list[Passage]
    outdated: list[str]
    report: UpdateReport


def plan_update(changes: Iterable[PassageLike | Deletion], existing: Sequence[Catalog]) -> UpdatePlan:
    """Work out what an update does to what the index holds, in one catalog or several: of one id the last word counts.

    :raises TypeError: if something is neither a passage nor a deletion.
    :raises ValueError: if a passage has no text.
    """
    last: dict[str, Passage | None] = {}
    for position, change in enumerate(changes):
        if isinstance(change, Deletion):
            last[change.id] = None
            continue
        passage = _passage_at(position, change)
        before = last.get(passage.id)
        if before is None or _version(passage) >= _version(before):
            last[passage.id] = passage
    return _compared(last, existing)


def _compared(last: dict[str, Passage | None], existing: Sequence[Catalog]) -> UpdatePlan:
    passages: list[Passage] = []
    outdated: list[str] = []
    counts: Counter[str] = Counter()
    ids = list(last)
    for start in range(0, len(ids), _LOOKED_UP_AT_ONCE):
        part = ids[start : start + _LOOKED_UP_AT_ONCE]
        stored = {id_: passage for catalog in existing for id_, passage in catalog.with_ids(part).items()}
        for id_ in part:
            wanted, there = last[id_], stored.get(id_)
            kind = _kind(wanted, there)
            counts[kind] += 1
            if kind in ("removed", "replaced"):
                outdated.append(id_)
            if wanted is not None and kind in ("added", "replaced"):
                passages.append(wanted)
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
