"""An extractive answer: the best evidence sentences of a ranking, word for word, each with a numbered citation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from biorerank_plugins._common.checks import finite_number, whole_number
from biorerank_plugins.articles.metadata import MetadataKeys, check_metadata_keys, cite
from biorerank_plugins.passages import AnswerState, Evidence, Passage, Ranking

__all__ = ["Answer", "Citation", "Quote", "cite", "compose_answer", "quote"]

NEAREST = 3
"""Passages to look at where one is not sure."""


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage that an answer quotes.

    :param number: from 1, in the order in which the answer quotes.
    :param passage: the passage.
    :param text: the passage's reference, see :func:`cite`.
    :param retracted: whether its metadata say that the article is retracted; the reference says it too.
    """

    number: int
    passage: Passage
    text: str
    retracted: bool = False

    @classmethod
    def of(cls, number: int, passage: Passage, keys: MetadataKeys) -> Citation:
        """Return the citation of a passage."""
        return cls(number, passage, cite(passage, keys), keys.retracted_in(passage))

    def to_dict(self) -> dict[str, Any]:
        """Return the citation as plain JSON types."""
        passage = self.passage.to_dict()
        return {"number": self.number, "text": self.text, "retracted": self.retracted, "passage": passage}


@dataclass(frozen=True, slots=True)
class Quote:
    """A sentence of an answer.

    :param evidence: the sentence as it stands in the passage.
    :param number: of its citation.
    """

    evidence: Evidence
    number: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Sentences of passages, and where they stand.

    :param query: the question.
    :param quotes: the sentences, in the order of the answer; empty unless ``state`` is ``"answered"``.
    :param citations: the passages they stand in.
    :param no_evidence: whether the ranking said that nothing reaches the model's threshold.
    :param state: ``"answered"``; ``"not_sure"``: look at ``nearest`` yourself; ``"nothing"`` was found.
    :param why: the reason where there is no answer, in a sentence.
    :param nearest: where one is not sure, the best passages, numbered from 1.
    """

    query: str
    quotes: tuple[Quote, ...] = ()
    citations: tuple[Citation, ...] = ()
    no_evidence: bool = False
    state: AnswerState = "answered"
    why: str = ""
    nearest: tuple[Citation, ...] = ()

    @property
    def text(self) -> str:
        """The sentences, each followed by the number of its citation."""
        return " ".join(f"{' '.join(quote.evidence.text.split())} [{quote.number}]" for quote in self.quotes)

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as plain JSON types."""
        return {
            "query": self.query,
            "answer": self.text,
            "state": self.state,
            "why": self.why,
            "no_evidence": self.no_evidence,
            "quotes": [
                {
                    **evidence_document(quote.evidence),
                    "citation": quote.number,
                    "passage": self.citations[quote.number - 1].passage.id,
                }
                for quote in self.quotes
            ],
            "citations": [citation.to_dict() for citation in self.citations],
            "nearest": [citation.to_dict() for citation in self.nearest],
        }


def evidence_document(sentence: Evidence) -> dict[str, Any]:
    """Return a sentence that may be quoted as plain JSON types."""
    return {name: getattr(sentence, name) for name in ("text", "start", "end", "score", "probability")}


def compose_answer(
    ranking: Ranking,
    *,
    max_sentences: int = 4,
    min_probability: float = 0.0,
    metadata_keys: MetadataKeys | None = None,
) -> Answer:
    r"""Quote the best evidence of a ranking.

    The best sentences are taken over all passages, and stand in the order of the ranking, those of one passage in the
    order of its text. One in the words of a better one is left out, so are questions, as long as there are statements,
    and what does not reach the model's threshold. Where the ranking is not sure, or no sentence is left, nothing is
    quoted and the nearest passages are named instead.

    :param ranking: ranked with ``evidence=k``.
    :param max_sentences: at most so many.
    :param min_probability: leave out sentences below.
    :param metadata_keys: where the passages' metadata hold what a citation says; ``None``: the common spellings.
    :returns: the answer, in one of three states.
    :raises ValueError: if the ranking was made without ``evidence``, or a number is impossible.

    Example::

        ranking = search.search("Which drug reverses dabigatran?", top_k=5, evidence=2)
        answer = compose_answer(ranking)
        print(answer.text, *(f"[{c.number}] {c.text}" for c in answer.citations), sep="\n")
    """
    state, why = _state(ranking)
    found = [(ranked.passage, ranked.evidence) for ranked in ranking]
    if state != "nothing" and not any(own for _, own in found) and any(passage.text.strip() for passage, _ in found):
        raise ValueError("The ranking has no evidence sentences: rank with evidence=1 or more.")
    answer = quote(
        ranking.query,
        found,
        state=state,
        max_sentences=max_sentences,
        min_probability=min_probability,
        metadata_keys=metadata_keys,
    )
    return replace(answer, no_evidence=bool(ranking.no_evidence), why=why or answer.why)


def _state(ranking: Ranking) -> tuple[AnswerState, str]:
    """Return what the ranking says of its question; a model that stores no more than a threshold tells two states."""
    if not len(ranking):
        return "nothing", "Nothing was found." if not ranking.below_threshold else "Nothing reaches the threshold."
    if ranking.answerability is not None:
        return ranking.answerability.state, ranking.answerability.why
    return ("nothing", "Nothing reaches the threshold.") if ranking.no_evidence else ("answered", "")


def quote(
    query: str,
    found: Iterable[tuple[Passage, Sequence[Evidence]]],
    *,
    state: AnswerState | None = None,
    max_sentences: int = 4,
    min_probability: float = 0.0,
    metadata_keys: MetadataKeys | None = None,
) -> Answer:
    """Quote evidence that came by another way than a ranking, as :func:`compose_answer` does.

    A reranked node or document of a host carries its sentences as ``metadata["biorerank_evidence"]``, of which
    ``Evidence(**record)`` makes them, and what the ranking says of the question as ``metadata["biorerank_answer"]``.

    :param query: the question.
    :param found: passages, best first, each with its evidence sentences.
    :param state: what the ranking says; only where it is ``"answered"``, or nothing is known, sentences are quoted.
    :param max_sentences: at most so many.
    :param min_probability: leave out sentences below.
    :param metadata_keys: where the passages' metadata hold what a citation says; ``None``: the common spellings.
    :returns: the answer, with the nearest passages where it is not sure; ``no_evidence`` is True where there are no
        passages at all.
    :raises ValueError: if a number is impossible.

    >>> sentence = Evidence("Idarucizumab reverses it.", 0, 25, score=0.9, probability=0.8)
    >>> quote("What reverses it?", [(Passage("7", "Idarucizumab reverses it."), [sentence])]).text
    'Idarucizumab reverses it. [1]'
    """
    whole_number("max_sentences", max_sentences)
    finite_number("min_probability", min_probability, low=0, high=1)
    keys = check_metadata_keys(metadata_keys)
    given = list(found)
    lines = [(place, sentence) for place, (_, own) in enumerate(given) for sentence in own]
    citations: dict[int, Citation] = {}
    quotes = []
    quotable = state in (None, "answered")
    best = _distinct(lines, max_sentences, min_probability) if quotable else []
    for place, sentence in sorted(best, key=lambda line: (line[0], line[1].start)):
        if place not in citations:
            citations[place] = Citation.of(len(citations) + 1, given[place][0], keys)
        quotes.append(Quote(sentence, citations[place].number))
    if not quotes and quotable:
        state = "not_sure" if given else "nothing"
    nearest = [Citation.of(n, passage, keys) for n, (passage, _) in enumerate(given[:NEAREST], 1)]
    return Answer(
        query,
        tuple(quotes),
        tuple(citations.values()),
        no_evidence=not given,
        state=state or "answered",
        why="No single sentence says it." if quotable and given and not quotes else "",
        nearest=tuple(nearest) if state == "not_sure" else (),
    )


def _distinct(found: list[tuple[int, Evidence]], limit: int, min_probability: float) -> list[tuple[int, Evidence]]:
    """Return the best sentences, none of them twice."""
    kept: dict[str, tuple[int, Evidence]] = {}
    quotable = [line for line in found if line[1].quotable]
    statements = [line for line in quotable if not line[1].text.rstrip().endswith("?")]
    # A question that a passage asks answers nothing; it is quoted only where there is nothing else.
    for line in sorted(statements or quotable, key=lambda line: -line[1].score):
        if line[1].probability >= min_probability:
            kept.setdefault("".join(filter(str.isalnum, line[1].text.casefold())), line)
    return list(kept.values())[:limit]
