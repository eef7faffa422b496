"""Passages on their way into an index: read and checked before the first of them is embedded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from biorerank_plugins.first_stage.catalog import Catalog
from biorerank_plugins.passages import Candidate, Passage, PassageLike, as_candidate

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
    if on_duplicate not in ("error", "skip"):
        raise ValueError(f"on_duplicate={on_duplicate!r} is unknown. Choose 'error' or 'skip'.")
    if isinstance(passages, (str, bytes, Passage, Candidate)):
        raise TypeError(f"Expected passages, got one {type(passages).__name__}: {passages!r:.80}. Put it in a list.")
    staged = Catalog.in_memory()
    positions: dict[str, int] = {}
    fresh = _fresh(passages, positions, on_duplicate, existing)
    staged.insert((first_row + number, passage) for number, passage in enumerate(fresh))
    return staged


def _fresh(
    passages: Iterable[PassageLike], positions: dict[str, int], on_duplicate: OnDuplicate, existing: Catalog | None
) -> Iterator[Passage]:
    for start, chunk in _chunks(passages):
        known = existing.find(passage.id for passage in chunk) if existing is not None else {}
        for position, passage in enumerate(chunk, start=start):
            if not passage.text.strip():
                raise ValueError(
                    f"Passage {passage.id!r} (position {position}, counted from 0) has no text. "
                    "Leave it out, or put what there is, such as the title, into its text."
                )
            seen = "in the index" if passage.id in known else positions.get(passage.id)
            if seen is None:
                positions[passage.id] = position
                yield passage
            elif on_duplicate == "error":
                where = seen if isinstance(seen, str) else f"at position {seen}"
                raise ValueError(
                    f"Passage id {passage.id!r} at position {position} is {where} already (positions counted from 0). "
                    "Ids must be unique; on_duplicate='skip' keeps the first."
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
