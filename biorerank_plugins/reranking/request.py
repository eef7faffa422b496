"""One query with its candidates: those to score, and those left out beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from biorerank_plugins._common.checks import check_query
from biorerank_plugins.articles.duplicates import deduplicate
from biorerank_plugins.articles.metadata import MetadataKeys
from biorerank_plugins.passages import Candidate, Passage, PassageLike, as_candidates
from biorerank_plugins.reranking.options import RankOptions


@dataclass(frozen=True, slots=True)
class RankRequest:
    """What is to be ranked."""

    query: str
    candidates: Sequence[Candidate]  # all that were given, in their order
    kept: Sequence[int]  # positions of those that are scored
    dropped: Mapping[int, str]  # positions of those left out, with the reason
    keys: MetadataKeys
    unread: Sequence[int] = ()  # positions of those that need not be scored, for they would not come among the first

    @classmethod
    def of(cls, query: str, passages: Iterable[PassageLike], options: RankOptions, keys: MetadataKeys) -> RankRequest:
        """Return the request; raise ``TypeError`` or ``ValueError`` for what is no query or passage."""
        query = check_query(query)
        candidates = as_candidates(passages)
        dropped: dict[int, str] = {}
        if options.retracted == "drop":
            found = (place for place, one in enumerate(candidates) if keys.retracted_in(one.passage))
            dropped = dict.fromkeys(found, "retracted")
        sound = [place for place in range(len(candidates)) if place not in dropped]
        kept, repeated = deduplicate([candidates[place] for place in sound], options.deduplicate, keys)
        dropped |= {sound[place]: "duplicate" for place in repeated}
        return cls(query, candidates, [sound[place] for place in kept], dict(sorted(dropped.items())), keys)

    def scored(self) -> list[Candidate]:
        """Return the candidates that are scored, in input order."""
        return [self.candidates[position] for position in self.kept]

    def only(self, places: Sequence[int]) -> RankRequest:
        """Return the request with some places among :attr:`kept`; the others stay unread."""
        wanted = set(places)
        others = [position for place, position in enumerate(self.kept) if place not in wanted]
        return replace(self, kept=[self.kept[place] for place in places], unread=others)

    def texts(self) -> Iterator[str]:
        """Return titles and texts of the candidates, read or not, but for those left out."""
        for position in (*self.kept, *self.unread):
            passage = self.candidates[position].passage
            yield f"{passage.title or ''} {passage.text}"

    def left_out(self) -> tuple[Passage, ...]:
        """Return the passages that are not scored, in input order."""
        return tuple(self.candidates[position].passage for position in self.dropped)
