"""Recent articles and strong kinds of study a little further up: added after the reranker, reported apart from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from types import MappingProxyType
from typing import Any

from biorerank_plugins._common.checks import finite_number, positive_number, whole_number
from biorerank_plugins.articles.metadata import DEFAULT_KEYS, MetadataKeys, folded
from biorerank_plugins.passages import Passage

_MAX_WEIGHT = 1e6
_AHEAD = 1  # an issue of next January is out in December; a year beyond that is a typing error


@dataclass(frozen=True, slots=True)
class Boosts:
    """What is added to a passage's logit before passages are put in order, in the logit's unit.

    A boost of ``ln 2`` (0.69) doubles the odds of relevance of a model whose logits are log-odds. It changes the order
    and nothing else: logit, score, probability and thresholds stay those of the model, and
    :attr:`RankedPassage.boost` says what was added.

    :param recency_half_life_years: an article of this year gets ``recency_weight``, one that is so many years old half
        of it, one twice as old a quarter. ``None``: age does not matter. An article without a year gets nothing.
    :param recency_weight: see there.
    :param publication_types: weight by kind of publication, below 0 to push down; case, blanks and hyphens do not
        matter (``"Meta-Analysis"`` is ``"meta analysis"``). Of several that fit, the highest above 0 and the lowest
        below 0 count.
    :param reference_year: what counts as this year; ``None`` asks the clock.
    :raises TypeError: if ``publication_types`` is no mapping from names.
    :raises ValueError: if a number is impossible, or a kind occurs twice.

    >>> boosts = Boosts(recency_half_life_years=5, publication_types={"Meta-Analysis": 0.5}, reference_year=2026)
    >>> boosts.of(Passage("1", "…", metadata={"year": 2021, "publication_types": ["Meta-Analysis"]}))
    1.0
    """

    recency_half_life_years: float | None = None
    recency_weight: float = 1.0
    publication_types: Mapping[str, float] = field(default_factory=dict)
    reference_year: int | None = None

    def __post_init__(self) -> None:
        if self.recency_half_life_years is not None:
            positive = positive_number("recency_half_life_years", self.recency_half_life_years)
            finite_number("recency_half_life_years", positive)
        finite_number("recency_weight", self.recency_weight, low=0, high=_MAX_WEIGHT)
        if self.reference_year is not None:
            whole_number("reference_year", self.reference_year)
        object.__setattr__(self, "publication_types", MappingProxyType(_check_types(self.publication_types)))

    def __reduce__(self) -> tuple[Any, ...]:
        # A mappingproxy cannot be pickled or deep-copied; a plain dict can.
        values = [getattr(self, one.name) for one in fields(self)]
        return (Boosts, tuple(dict(value) if isinstance(value, Mapping) else value for value in values))

    def __hash__(self) -> int:
        return hash((self.recency_half_life_years, self.recency_weight, frozenset(self.publication_types.items())))

    def of(self, passage: Passage, keys: MetadataKeys = DEFAULT_KEYS) -> float:
        """Return a passage's boost.

        :param passage: the passage.
        :param keys: where its metadata say the year and the kind of publication.
        """
        return self._recency(passage, keys) + self._type(passage, keys)

    def _recency(self, passage: Passage, keys: MetadataKeys) -> float:
        if self.recency_half_life_years is None:
            return 0.0
        year = keys.year_of(passage)
        now = date.today().year if self.reference_year is None else self.reference_year
        if year is None or year > now + _AHEAD:
            return 0.0
        return float(self.recency_weight * 0.5 ** (max(0, now - year) / self.recency_half_life_years))

    def _type(self, passage: Passage, keys: MetadataKeys) -> float:
        if not self.publication_types:
            return 0.0
        by_name = {folded(name): weight for name, weight in self.publication_types.items()}
        found = [0.0, *(by_name.get(folded(name), 0.0) for name in keys.publication_types_of(passage))]
        return max(found) + min(found)


def _check_types(given: object) -> dict[str, float]:
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise TypeError(f"publication_types must map names to weights, got {given!r:.80}.")
    seen: dict[str, str] = {}
    for name in given:
        if not folded(name):
            raise ValueError(f"publication_types: {name!r} is no name.")
        if (other := seen.setdefault(folded(name), name)) != name:
            raise ValueError(f"publication_types: {name!r} and {other!r} are the same kind; give one of them.")
    return {
        name: finite_number(f"publication_types[{name!r}]", weight, low=-_MAX_WEIGHT, high=_MAX_WEIGHT)
        for name, weight in given.items()
    }
