"""What the page shows: a question ► two stages ► an answer with citations, evidence cards, and what moved."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from citations import PUBMED, bibtex, ris

from biorerank_plugins import BioReranker, Passage, PassageIndex, RankedPassage
from biorerank_plugins.answers.llm import ChatModel
from biorerank_plugins.answers.question_language import question_notes
from biorerank_plugins.answers.quoted import compose_answer
from biorerank_plugins.answers.written import WrittenAnswer, cited_prompt
from biorerank_plugins.articles.metadata import DEFAULT_KEYS, cite

LONGEST_QUESTION = 10_000
LONGEST_TITLE = 120


@dataclass(frozen=True)
class Asked:
    """A question with the settings of the page; out-of-range settings are brought into range.

    :param question: as typed.
    :param candidates: passages that the first stage hands to the reranker.
    :param top_k: evidence cards at most.
    :param threshold: probability that a card must have.
    :param years: first and last year; ``None`` for no limit.
    """

    question: str
    candidates: int
    top_k: int
    threshold: float
    years: tuple[int | None, int | None] = (None, None)

    @classmethod
    def read(cls, given: dict[str, Any], threshold: float) -> "Asked":
        """Read what the page sent.

        :raises ValueError: with a sentence for the person.
        """
        question = str(given.get("question") or "").strip()
        if not question:
            raise ValueError("Please type a question first.")
        if len(question) > LONGEST_QUESTION:
            raise ValueError(f"This question has {len(question):,} characters. Please ask in one or two sentences.")
        try:
            years = tuple(int(year) if str(year or "").strip() else None for year in given.get("years") or (None, None))
            candidates, top_k = int(given.get("candidates") or 50), int(given.get("top_k") or 5)
            wanted = float(given.get("threshold", threshold))
        except (TypeError, ValueError, OverflowError):
            raise ValueError("A setting is no number. Please check the settings below the question.") from None
        if len(years) != 2 or (None not in years and years[0] > years[1]):
            raise ValueError("The first year is after the last one. Please check the settings.")
        within = min(max(candidates, 5), 300), min(max(top_k, 1), 20), min(max(wanted, 0.0), 1.0)
        return cls(question, *within, years)

    @property
    def filters(self) -> dict[str, Any] | None:
        """The years as a condition of the index."""
        limits = {sign: year for sign, year in zip((">=", "<="), self.years, strict=True) if year is not None}
        return {"year": limits} if limits else None


class Found:
    """What was found for a question; ``shown`` are the passages that reach the threshold.

    Where the reranker is not sure the nearest passages are shown whatever their probability: to be looked at.

    :param address: where the document of a passage opens; ``None`` for those that cannot be opened.
    """

    def __init__(
        self, index: PassageIndex, reranker: BioReranker, asked: Asked, address: Callable[[Passage], str | None]
    ) -> None:
        self.asked = asked
        start = perf_counter()
        candidates = index.search(asked.question, asked.candidates, filters=asked.filters)
        middle = perf_counter()
        self.ranking = reranker.rank(asked.question, candidates, top_k=asked.top_k, evidence=2, retracted="flag")
        self.seconds = {"first stage": middle - start, "reranker": perf_counter() - middle}
        self.candidates = candidates
        self.answer = compose_answer(self.ranking, max_sentences=4)
        self.shown = [one for one in self.ranking if one.probability >= asked.threshold]
        if self.answer.state != "nothing":
            self.shown = list(
                self.ranking[: max(len(self.shown), len(self.answer.nearest), len(self.answer.quotes[:1]))]
            )
        self._address = address

    def to_dict(self) -> dict[str, Any]:
        """Return everything the page shows, as JSON."""
        return {
            "question": self.asked.question,
            "notes": question_notes(self.asked.question),
            "state": self.answer.state,
            "why": self.answer.why,
            "answer": self._answer(),
            "cards": [{**_card(one), "opens": self._address(one.passage)} for one in self.shown],
            "below": len(self.ranking) - len(self.shown),
            "best": max((one.probability for one in self.ranking), default=None),
            "found": len(self.candidates),
            "before": self._before(),
            "after": [_line(one.passage, one.rank, one.input_index + 1) for one in self.ranking],
            "seconds": self.seconds,
        }

    def _answer(self) -> list[dict[str, Any]]:
        """Return the best sentences of the cards; their numbers are those of the cards."""
        numbers = {one.passage.id: one.rank for one in self.shown}
        cited = {one.number: numbers.get(one.passage.id) for one in self.answer.citations}
        quotes = [(one.evidence.text, cited[one.number]) for one in self.answer.quotes]
        return [{"text": text, "number": number} for text, number in quotes if number is not None]

    def _before(self) -> list[dict[str, Any]]:
        """Return what the first stage alone would have shown."""
        now = {one.input_index: one.rank for one in self.ranking}
        first = self.candidates[: self.asked.top_k]
        return [_line(one.passage, place + 1, now.get(place)) for place, one in enumerate(first)]

    def written(self, chat: ChatModel) -> Iterator[str]:
        """Give what a language model writes, as lines of JSON: pieces, then what is wrong with the answer."""
        passages = [one.passage for one in self.shown]
        answer = WrittenAnswer(self.asked.question, passages)
        for piece in answer.read(chat.stream(cited_prompt(self.asked.question, passages))):
            yield json.dumps({"piece": piece}) + "\n"
        yield json.dumps({"notes": answer.notes, "failed": answer.error is not None}) + "\n"


def _line(passage: Passage, rank: int, other: int | None) -> dict[str, Any]:
    return {"id": passage.id, "title": _title(passage), "rank": rank, "other": other}


def _title(passage: Passage) -> str:
    text = " ".join((passage.title or passage.text).split())
    return text if len(text) <= LONGEST_TITLE else text[:LONGEST_TITLE].rsplit(" ", 1)[0] + " …"


def _card(one: RankedPassage) -> dict[str, Any]:
    passage = one.passage
    pmid = DEFAULT_KEYS.pmid_of(passage)
    return {
        "number": one.rank,
        "title": _title(passage),
        "references": {"Text": cite(passage), "BibTeX": bibtex(passage), "RIS": ris(passage)},
        "link": PUBMED.format(pmid) if pmid.isdigit() else None,
        "year": DEFAULT_KEYS.year_of(passage),
        "place": ", ".join(
            f"{name} {passage.metadata[name]}" for name in ("source", "page", "section") if passage.metadata.get(name)
        ),
        "retracted": bool(one.retracted),
        "probability": one.probability,
        "truncated": one.truncated,
        "parts": list(_parts(one)),
    }


def _parts(one: RankedPassage) -> Iterator[dict[str, Any]]:
    """Give a passage in parts; those that are evidence are marked."""
    text, at = one.passage.text, 0
    for evidence in sorted(one.evidence, key=lambda sentence: sentence.start):
        if evidence.start > at:
            yield {"text": text[at : evidence.start], "evidence": False}
        yield {"text": text[evidence.start : evidence.end], "evidence": True}
        at = evidence.end
    if at < len(text):
        yield {"text": text[at:], "evidence": False}
