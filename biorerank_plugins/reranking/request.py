"""One query with its candidates: those to score, and those left out beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from biorerank_plugins._common.checks import check_query
from biorerank_plugins.articles.duplicates import deduplicate
from biorerank_plugins.articles.metadata import MetadataKeys
from biorerank_plugins.passages import Candidate, Passage, PassageLike, as_candidates
from biorerank_plugins.reranking.options import RankOptions


def either(passages: Iterable[PassageLike] | None, documents: Iterable[PassageLike] | None) -> Iterable[PassageLike]:
    """Return the passages of a call, by our name for them or by that of ``CrossEncoder.rank``.

    :raises TypeError: if there are none, or two.
    """
    given = documents if passages is None else passages
    if given is None or (passages is not None and documents is not None):
        raise TypeError("rank() takes passages, or documents, which is the same by CrossEncoder's name: give one.")
    return given


@dataclass(frozen=True, slots=True)
class RankRequest:
    """What is to be ranked.

    :param query: the question as it was given.
    :param candidates: all that were given, in their order.
    :param kept: positions of those that are scored.
    :param dropped: positions of those left out, with the reason.
    :param keys: where metadata hold PMID, year and so on.
    :param unread: positions of those that need not be scored, for they would not come among the first.
    """

    query: str
    candidates: Sequence[Candidate]
    kept: Sequence[int]
    dropped: Mapping[int, str]
    keys: MetadataKeys
    unread: Sequence[int] = ()

    @classmethod
    def of(cls, query: str, passages: Iterable[PassageLike], options: RankOptions, keys: MetadataKeys) -> RankRequest:
        """Return the request.

        :raises TypeError: if the query is no string, or something among the passages is not a passage.
        :raises ValueError: if the query is empty.
        """
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
        """Return the request with some of what is to be scored; the others stay unread.

        :param places: among :attr:`kept`.
        """
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
