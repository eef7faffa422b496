"""The one vocabulary of the package: what goes in, what comes out.

All classes are frozen; metadata is a read-only copy of what the caller gave, and results turn into plain JSON.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, TypeAlias, overload

__all__ = [
    "Candidate",
    "Evidence",
    "Passage",
    "PassageLike",
    "RankedPassage",
    "Ranking",
    "as_candidate",
    "as_candidates",
]


def _freeze(value: Any) -> Any:
    """Copy nested containers, so that what the caller changes later does not change a passage."""
    if isinstance(value, Mapping):
        return MappingProxyType({str(key): _freeze(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return tuple(_freeze(item) for item in value)
    return value


def _thaw(value: Any) -> Any:
    """Turn a frozen value back into what :mod:`json` can write."""
    if isinstance(value, Mapping):
        return {key: _thaw(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_thaw(item) for item in value]
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
class Evidence:
    """A sentence of a passage that carries the answer.

    :param text: the sentence: ``passage.text[start:end] == text``.
    :param start: first code point in ``passage.text`` (the title is not counted).
    :param end: one past the last code point.
    :param score: the model's activation for this sentence.
    :param probability: calibrated where the model has a calibration.
    """

    text: str
    start: int
    end: int
    score: float
    probability: float


@dataclass(frozen=True, slots=True)
class RankedPassage:
    """One line of a :class:`Ranking`.

    :param passage: the passage as it was given.
    :param input_index: its position in the caller's list, counted from 0.
    :param rank: place in the ranking, counted from 1.
    :param logit: the model's raw output, higher is better.
    :param score: the model's own activation of :attr:`order_value`; where nothing is fused or boosted, what
        ``CrossEncoder.predict`` gives. It never rises along the list.
    :param probability: calibrated on :attr:`order_value` if the model carries a calibration, else its sigmoid.
    :param retrieval_score: the first stage's score, if the caller gave one.
    :param evidence: best sentences, if asked for.
    :param n_windows: number of windows that were scored for this passage.
    :param truncated: whether a part of the passage was not read by the model.
    :param window: of a passage read in several windows, where the one that won lies in ``passage.text``.
    :param fused: the logit plus what the first stage adds, where fusion is on.
    :param boost: what was added to that for the article's year and kind (:class:`~biorerank_plugins.Boosts`).
    :param retracted: whether its metadata say that the article is retracted; ``None`` if nobody asked.
    """

    passage: Passage
    input_index: int
    rank: int
    logit: float
    score: float
    probability: float
    retrieval_score: float | None = None
    evidence: tuple[Evidence, ...] = ()
    n_windows: int = 1
    truncated: bool = False
    fused: float | None = None
    window: tuple[int, int] | None = None
    boost: float = 0.0
    retracted: bool | None = None

    @property
    def order_value(self) -> float:
        """What the list is ordered by: the logit or the fused value, plus the boost."""
        return (self.logit if self.fused is None else self.fused) + self.boost

    def to_dict(self) -> dict[str, Any]:
        """Return the line as plain JSON types."""
        return {
            "rank": self.rank,
            **self.passage.to_dict(),
            "input_index": self.input_index,
            "logit": self.logit,
            "score": self.score,
            "probability": self.probability,
            "retrieval_score": self.retrieval_score,
            "evidence": [
                {"text": e.text, "start": e.start, "end": e.end, "score": e.score, "probability": e.probability}
                for e in self.evidence
            ],
            "n_windows": self.n_windows,
            "truncated": self.truncated,
            "fused": self.fused,
            "window": None if self.window is None else list(self.window),
            "boost": self.boost,
            "retracted": self.retracted,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Ranking(Sequence[RankedPassage]):
    """Passages in order of relevance to one query; a read-only sequence of :class:`RankedPassage`.

    :param query: the query as it was given.
    :param passages: the ranked passages, best first.
    :param dropped: passages left out before scoring, in input order.
    :param below_threshold: number of passages scored and then left out by ``min_score`` or ``min_probability``.
    :param no_evidence: True if no scored passage reaches the threshold stored with the model
        (``None`` if the model carries no threshold).
    :param query_truncated: whether the query was cut at ``query_max_length``.
    :param timings: seconds by stage.
    :param drop_reasons: for each dropped passage ``"duplicate"`` (of a ranked one) or ``"retracted"``.
    :param missing_shards: parts of a sharded index that did not answer, so that the ranking may lack passages.

    >>> ranking = Ranking("q", ())
    >>> len(ranking), list(ranking)
    (0, [])
    """

    query: str
    passages: tuple[RankedPassage, ...] = ()
    dropped: tuple[Passage, ...] = ()
    below_threshold: int = 0
    no_evidence: bool | None = None
    query_truncated: bool = False
    timings: Mapping[str, float] = field(default_factory=dict)
    drop_reasons: tuple[str, ...] = ()
    missing_shards: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "timings", MappingProxyType(dict(self.timings)))
        if not self.drop_reasons:
            object.__setattr__(self, "drop_reasons", ("duplicate",) * len(self.dropped))

    def __reduce__(self) -> tuple[Any, ...]:
        # As in Passage: a mappingproxy cannot be pickled.
        values = [getattr(self, one.name) for one in fields(self)]
        return (Ranking, tuple(dict(value) if isinstance(value, Mapping) else value for value in values))

    def __len__(self) -> int:
        return len(self.passages)

    def __iter__(self) -> Iterator[RankedPassage]:
        return iter(self.passages)

    @overload
    def __getitem__(self, index: int) -> RankedPassage: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[RankedPassage, ...]: ...
    def __getitem__(self, index: int | slice) -> RankedPassage | tuple[RankedPassage, ...]:
        return self.passages[index]

    def to_dict(self) -> dict[str, Any]:
        """Return the ranking as plain JSON types."""
        return {
            "query": self.query,
            "passages": [ranked.to_dict() for ranked in self.passages],
            "dropped": [passage.id for passage in self.dropped],
            "drop_reasons": list(self.drop_reasons),
            "below_threshold": self.below_threshold,
            "no_evidence": self.no_evidence,
            "query_truncated": self.query_truncated,
            "timings": dict(self.timings),
            **({"missing_shards": list(self.missing_shards)} if self.missing_shards else {}),
        }


PassageLike: TypeAlias = str | Passage | Candidate
"""What every public call takes as a passage; a string's id is its position as a string."""


def as_candidate(item: PassageLike, position: int) -> Candidate:
    """Turn a string, passage or candidate into a candidate.

    :param item: the passage.
    :param position: its place in the caller's list; becomes the id of a string.
    :raises TypeError: if ``item`` is something else.
    """
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

    :raises TypeError: if ``items`` is one string or a mapping (a list of passages was meant), or holds something else
        than passages.

    >>> [c.passage.id for c in as_candidates(["first", Passage("b", "second")])]
    ['0', 'b']
    """
    if isinstance(items, (str, bytes, Passage, Candidate)):
        raise TypeError(
            f"Expected a list of passages, got one {type(items).__name__}: {items!r:.80}. Put it in a list."
        )
    if isinstance(items, Mapping) or not isinstance(items, Iterable):
        raise TypeError(f"Expected a list of passages, got {type(items).__name__}: {items!r:.80}.")
    return [as_candidate(item, position) for position, item in enumerate(items)]
