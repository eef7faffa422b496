"""What comes out: passages in order of relevance to a query."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, overload

from biorerank_plugins.passages.passage import Passage


@dataclass(frozen=True, slots=True)
class Evidence:
    """A sentence of a passage that carries the answer.

    :param text: the sentence: ``passage.text[start:end] == text``.
    :param start: first code point in ``passage.text`` (the title is not counted).
    :param end: one past the last code point.
    :param score: the model's activation for this sentence.
    :param probability: calibrated where the model has a calibration.
    :param quotable: whether it reaches the threshold from which on the model's sentences may stand as an answer; True
        where none is stored.
    """

    text: str
    start: int
    end: int
    score: float
    probability: float
    quotable: bool = True


AnswerState: TypeAlias = Literal["answered", "not_sure", "nothing"]
"""The answer is among the passages; perhaps, look yourself; nothing was found."""


@dataclass(frozen=True, slots=True)
class Answerability:
    """Whether the answer to a question is among the candidates.

    :param state: one of three.
    :param probability: that the answer is there, calibrated.
    :param unseen: words of the question that stand in no candidate, as the question writes them.
    """

    state: AnswerState
    probability: float
    unseen: tuple[str, ...] = ()

    @property
    def why(self) -> str:
        """The reason in one sentence; empty where there is an answer."""
        if self.state == "answered":
            return ""
        words = ", ".join(repr(word) for word in self.unseen[:3])
        if words:
            return f"No passage that was found says {words}."
        return "What was found is only weakly related." if self.state == "not_sure" else "Nothing found is related."

    def to_dict(self) -> dict[str, Any]:
        """Return the decision as plain JSON types."""
        return {**asdict(self), "unseen": list(self.unseen), "why": self.why}


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
            **{one.name: getattr(self, one.name) for one in fields(self) if one.name != "passage"},
            "evidence": [asdict(sentence) for sentence in self.evidence],
            "window": None if self.window is None else list(self.window),
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
    :param answerability: whether the answer is among the scored passages, in one of three states; ``None`` if the
        model stores nothing to tell it by, or nothing was scored.
    :param missing_shards: parts of a sharded index that did not answer, so that the ranking may lack passages.
    :param unread: with ``effort="auto"``, how many passages the model did not read, for they were not likely to come
        among the first.

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
    answerability: Answerability | None = None
    unread: int = 0

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
            "answerability": None if self.answerability is None else self.answerability.to_dict(),
            "query_truncated": self.query_truncated,
            "timings": dict(self.timings),
            **({"unread": self.unread} if self.unread else {}),
            **({"missing_shards": list(self.missing_shards)} if self.missing_shards else {}),
        }
