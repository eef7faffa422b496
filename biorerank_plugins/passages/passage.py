"""What goes in: a passage, and a passage as a first stage found it."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

from biorerank_plugins._common.checks import in_order

_DEEPEST = 100  # containers in containers


def _freeze(value: Any, above: tuple[int, ...] = ()) -> Any:
    """Copy nested containers, so that what the caller changes later does not change a passage.

    A container that holds itself is kept as it is where it comes again, and so is what lies too deep.
    """
    if id(value) in above or len(above) > _DEEPEST:
        return value
    inside = (*above, id(value))
    if isinstance(value, Mapping):
        return MappingProxyType({str(key): _freeze(item, inside) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return tuple(_freeze(item, inside) for item in value)
    return value


def _thaw(value: Any, above: tuple[int, ...] = ()) -> Any:
    """Turn a frozen value back into what :mod:`json` can write; what holds itself is ``None`` where it comes again."""
    if id(value) in above or len(above) > 2 * _DEEPEST:
        return None
    inside = (*above, id(value))
    if isinstance(value, Mapping):
        return {str(key): _thaw(item, inside) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_thaw(item, inside) for item in value]
    if hasattr(value, "tolist"):  # numpy's numbers and arrays
        return value.tolist()
    return value


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of text that may hold evidence.

    :param id: name of the passage, unique within a collection; not empty.
    :param text: the text. It may be empty: a collection refuses it, a reranker scores it as it is.
    :param title: title of the article it comes from, if known.
    :param metadata: whatever the caller wants to keep with it (PMID, year, …); copied and read-only.
    :raises TypeError: if ``id``, ``text`` or ``title`` is not a string, or ``metadata`` not a mapping.
    :raises ValueError: if ``id`` is empty.

    >>> Passage("23185200", "Antioxidants lower oxidative stress.", metadata={"year": 2013}).metadata["year"]
    2013
    """

    id: str
    text: str
    title: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in (("id", self.id), ("text", self.text)):
            if not isinstance(value, str):
                raise TypeError(f"Passage.{name} must be a string, got {type(value).__name__}: {value!r:.80}")
        if not self.id:
            raise ValueError("Passage.id must not be empty.")
        if self.title is not None and not isinstance(self.title, str):
            raise TypeError(f"Passage.title must be a string or None, got {type(self.title).__name__}.")
        if not isinstance(self.metadata, Mapping):
            raise TypeError(f"Passage.metadata must be a mapping, got {type(self.metadata).__name__}.")
        object.__setattr__(self, "metadata", _freeze(self.metadata))

    def __hash__(self) -> int:
        return hash((self.id, self.text, self.title))

    def __reduce__(self) -> tuple[Any, ...]:
        # A mappingproxy cannot be pickled or deep-copied; a plain dict can.
        return (Passage, (self.id, self.text, self.title, _thaw(self.metadata)))

    def to_dict(self) -> dict[str, Any]:
        """Return the passage as plain JSON types."""
        return {"id": self.id, "text": self.text, "title": self.title, "metadata": _thaw(self.metadata)}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A passage as a first stage found it.

    :param passage: the passage.
    :param score: the first stage's score; higher is better. ``None`` if it gave none.
    :param rank: place in the first stage's list, counted from 1. ``None`` if unknown.
    :param first_stage: what the score is, by the name under which a reranker stores a fusion weight for it
        (:meth:`~biorerank_plugins.BioReranker.stored_fusion`); ``None`` if it is none of those.
    :raises TypeError: if ``passage`` is no :class:`Passage` or ``score`` no number.
    """

    passage: Passage
    score: float | None = None
    rank: int | None = None
    first_stage: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.passage, Passage):
            raise TypeError(f"Candidate.passage must be a Passage, got {type(self.passage).__name__}.")
        if self.score is not None and (isinstance(self.score, bool) or not isinstance(self.score, numbers.Real)):
            raise TypeError(f"Candidate.score must be a number or None, got {self.score!r:.80}.")


@dataclass(frozen=True, slots=True)
class Deletion:
    """That a passage is to be taken out of an index, as an update file says it.

    :param id: of the passage.
    """

    id: str


PassageLike: TypeAlias = str | Passage | Candidate
"""What every public call takes as a passage; a string's id is its position as a string."""


def as_candidate(item: PassageLike, position: int) -> Candidate:
    """Turn a string, passage or candidate into a candidate."""
    if isinstance(item, Candidate):
        return item
    if isinstance(item, Passage):
        return Candidate(item)
    if isinstance(item, str):
        return Candidate(Passage(str(position), item))
    raise TypeError(
        f"Passage {position} must be a str, Passage or Candidate, got {type(item).__name__}: {item!r:.80}. "
        "Wrap your own objects as Passage(id=…, text=…)."
    )


def as_candidates(items: Iterable[PassageLike]) -> list[Candidate]:
    """Turn what a caller gave into candidates, in the same order.

    :raises TypeError: if ``items`` is one string or a mapping (a list of passages was meant), a set or a table, or
        holds something else than passages.
    """
    if isinstance(items, (Passage, Candidate)):
        raise TypeError(
            f"Expected a list of passages, got one {type(items).__name__}: {items!r:.80}. Put it in a list."
        )
    return [as_candidate(item, position) for position, item in enumerate(in_order("a list of passages", items))]
