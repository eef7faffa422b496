"""What negatives are drawn from, how many of which kind, and which passages must not be among them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from biorerank_plugins._common.checks import finite_number, whole_number
from biorerank_plugins.errors import ReaderError
from biorerank_plugins.readers.objects import read_objects
from biorerank_plugins.readers.records import as_id, as_text, check_object, listed
from biorerank_plugins.readers.report import Malformed
from biorerank_plugins.readers.source import source_of

Candidates: TypeAlias = Mapping[str, Sequence[tuple[int, float]]]
"""For each question id, (position of a passage in the collection, score), best first."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Question:
    """A question: its gold passages (positions in the collection), their documents, and what is no answer to it."""

    id: str
    text: str
    gold: frozenset[int]
    documents: frozenset[str]
    negatives: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Abstract:
    """A whole abstract cut into sentences, labelled 1 where a sentence is evidence for the question."""

    question_id: str
    sentences: tuple[str, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PairConfig:
    """How many rows of which kind.

    :param negatives_per_positive: mined negatives for each gold snippet.
    :param hard_depth: negatives up to this first-stage rank count as hard; one half is drawn from them.
    :param depth: deepest first-stage rank that negatives are drawn from.
    :param random_share: share of the negatives drawn at random from the collection.
    :param sentence_negatives: at most this many rows (question, sentence of the same abstract that is no evidence).
    :param abstract_share: for :func:`build_pairs`, which counts them by share instead: how much of the negatives are
        such sentences.
    :param whole_abstracts: also give whole abstracts as passages.
    :param max_score_ratio: a passage that the bi-encoder scores above this share of the question's best gold passage is
        not taken as a negative (positive-aware mining: Moreira et al. 2024, "NV-Retriever").
    :param max_overlap: a passage is not taken if it and a gold passage share more than this share of the words of the
        one that has fewer.
    :param seed: of everything that is drawn.
    """

    negatives_per_positive: float = 1.3
    hard_depth: int = 30
    depth: int = 100
    random_share: float = 0.05
    sentence_negatives: int = 14_000
    max_score_ratio: float = 0.95
    max_overlap: float = 0.7
    seed: int = 42
    abstract_share: float = 0.25
    whole_abstracts: bool = True

    def __post_init__(self) -> None:
        finite_number("negatives_per_positive", self.negatives_per_positive, low=0.0)
        for name in ("random_share", "abstract_share", "max_overlap"):
            finite_number(name, getattr(self, name), low=0.0, high=1.0)
        finite_number("max_score_ratio", self.max_score_ratio, low=0.0)
        for name in ("hard_depth", "depth"):
            whole_number(name, getattr(self, name))
        whole_number("sentence_negatives", self.sentence_negatives, least=0)


@dataclass(slots=True)
class NegativeGuard:
    """Keeps passages of a collection that may well answer the question out of its negatives."""

    texts: Sequence[str]
    documents: Sequence[str | None]
    config: PairConfig
    _words: dict[str, frozenset[str]] = field(default_factory=dict)

    def admits(self, question: Question, position: int, dense_scores: Mapping[int, float]) -> bool:
        """Return whether a passage may be used as a negative for a question, by the bi-encoder's scores too."""
        if position in question.gold or self.documents[position] in question.documents:
            return False
        gold_scores = [dense_scores[gold] for gold in question.gold if gold in dense_scores]
        limit = self.config.max_score_ratio * max(gold_scores, default=1.0)
        if dense_scores.get(position, 0.0) > limit:
            return False
        return not self.repeats_gold(question, self.texts[position])

    def repeats_gold(self, question: Question, text: str) -> bool:
        """Return whether a text says nearly the same as a gold passage of the question."""
        words = self._words_of(text)
        golds = (self._words_of(self.texts[gold]) for gold in question.gold)
        return any(len(words & gold) > self.config.max_overlap * min(len(words), len(gold)) for gold in golds)

    def _words_of(self, text: str) -> frozenset[str]:
        if text not in self._words:
            self._words[text] = frozenset(_WORD.findall(text.lower()))
        return self._words[text]


def read_abstracts(path: str | Path, names: Mapping[str, str]) -> list[Abstract]:
    """Read ``{"qid", "doc", "sentences": [{"text", "label"}]}``, one abstract of one question a line.

    :param names: id of a question in the file ► id of the question that is meant; those of others are left out.
    :raises ReaderError: names file and line of what is no such record; also if no abstract is of a known question.
    """
    found = read_objects(path, _abstract)
    known = [replace(one, question_id=names[one.question_id]) for one in found if one.question_id in names]
    if found and not known:
        raise ReaderError(f"None of the {len(found)} abstracts is of one of the questions.", source_of(path).name)
    return known


def _abstract(record: dict[str, Any]) -> Abstract:
    sentences = record.get("sentences")
    if "qid" not in record or not isinstance(sentences, list):
        raise Malformed(f"Expected 'qid' and a list 'sentences'; the keys are: {listed(record)}.")
    parsed = [_sentence(check_object(sentence), number) for number, sentence in enumerate(sentences, start=1)]
    return Abstract(as_id(record["qid"], "qid"), tuple(text for text, _ in parsed), tuple(label for _, label in parsed))


def _sentence(record: dict[str, Any], number: int) -> tuple[str, int]:
    label = record.get("label")
    if isinstance(label, bool) or label not in (0, 1):
        raise Malformed(f"Sentence {number}: the label must be 0 or 1, got {label!r:.40}.")
    return as_text(record.get("text")).strip(), int(label)
