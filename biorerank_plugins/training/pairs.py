"""(question, passage, 0/1) rows for training a cross-encoder, built from BioASQ questions and their gold snippets.

Positives are the gold snippets. Negatives look alike but do not answer: passages of *other* questions that a bi-encoder
or BM25 finds for the question, sentences of the same abstract that are no evidence, whole abstracts of similar
questions, and a few random ones. What may be an unjudged positive is kept out (see :class:`NegativeGuard`).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import TypeAlias

from biorerank_plugins._common.checks import finite_number, whole_number
from biorerank_plugins.training.rows import TrainingPair, describe

__all__ = [
    "Abstract",
    "Candidates",
    "NegativeGuard",
    "PairConfig",
    "Question",
    "TrainingPair",
    "abstract_pairs",
    "build_pairs",
    "describe",
    "mined_pairs",
]

Candidates: TypeAlias = Mapping[str, Sequence[tuple[int, float]]]
"""For each question id, (position of a passage in the collection, score), best first."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its gold passages (positions in the collection) and the documents that those come from."""

    id: str
    text: str
    gold: frozenset[int]
    documents: frozenset[str]


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
    """Keeps passages that may well answer the question out of its negatives.

    :param texts: passage texts of the collection.
    :param documents: document of each passage, or ``None``.
    :param config: the thresholds.
    """

    texts: Sequence[str]
    documents: Sequence[str | None]
    config: PairConfig
    _words: dict[int, frozenset[str]] = field(default_factory=dict)

    def admits(self, question: Question, position: int, dense_scores: Mapping[int, float]) -> bool:
        """Return whether a passage may be used as a negative for a question.

        :param question: the question.
        :param position: the passage's position in the collection.
        :param dense_scores: the bi-encoder's scores of the question's candidates.
        """
        if position in question.gold or self.documents[position] in question.documents:
            return False
        gold_scores = [dense_scores[gold] for gold in question.gold if gold in dense_scores]
        limit = self.config.max_score_ratio * max(gold_scores, default=1.0)
        if dense_scores.get(position, 0.0) > limit:
            return False
        return not self._repeats_gold(question, self._words_of(position))

    def repeats_gold(self, question: Question, text: str) -> bool:
        """Return whether a text says nearly the same as a gold passage of the question.

        :param question: the question.
        :param text: a text that need not be in the collection.
        """
        return self._repeats_gold(question, _words(text))

    def _repeats_gold(self, question: Question, words: frozenset[str]) -> bool:
        return any(
            len(words & self._words_of(gold)) > self.config.max_overlap * min(len(words), len(self._words_of(gold)))
            for gold in question.gold
        )

    def _words_of(self, position: int) -> frozenset[str]:
        if position not in self._words:
            self._words[position] = _words(self.texts[position])
        return self._words[position]


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.lower()))


def build_pairs(
    questions: Sequence[Question],
    texts: Sequence[str],
    documents: Sequence[str | None],
    dense: Candidates,
    lexical: Candidates,
    abstracts: Sequence[Abstract] = (),
    similar: Mapping[str, Sequence[str]] | None = None,
    config: PairConfig | None = None,
) -> list[TrainingPair]:
    """Return all rows, shuffled: positives, and ``negatives_per_positive`` times as many negatives of every kind.

    The share of the negatives that comes from the abstracts is as large as ``abstract_share`` asks and the abstracts
    allow; the rest is mined, and random.

    :param questions: the questions.
    :param texts: passage texts of the collection.
    :param documents: document of each passage, or ``None``.
    :param dense: the bi-encoder's candidates.
    :param lexical: those of BM25.
    :param abstracts: abstracts of the questions, cut into sentences.
    :param similar: for each question id, ids of other questions, most similar first; for whole abstracts.
    :param config: numbers and thresholds.
    """
    config = config or PairConfig()
    n_positives = sum(len(question.gold) for question in questions)
    wanted = n_positives * config.negatives_per_positive
    from_abstracts = abstract_pairs(
        questions,
        abstracts,
        similar or {},
        replace(config, sentence_negatives=round(wanted * config.abstract_share)),
        guard=NegativeGuard(texts, documents, config),
    )
    n_sentences = sum(row.source == "same abstract" for row in from_abstracts)
    rest = (wanted - n_sentences) / max(n_positives, 1)
    mined = mined_pairs(
        questions, texts, documents, dense, lexical, replace(config, negatives_per_positive=max(rest, 0.0))
    )
    rows = mined + from_abstracts
    random.Random(config.seed + 2).shuffle(rows)
    return rows


def mined_pairs(
    questions: Sequence[Question],
    texts: Sequence[str],
    documents: Sequence[str | None],
    dense: Candidates,
    lexical: Candidates,
    config: PairConfig | None = None,
) -> list[TrainingPair]:
    """Return gold snippets as positives and mined passages of other questions as negatives.

    :param questions: the questions.
    :param texts: passage texts of the collection.
    :param documents: document of each passage, or ``None``.
    :param dense: for each question id, (position, score) of the bi-encoder's candidates, best first.
    :param lexical: the same of BM25.
    :param config: numbers and thresholds.
    """
    config = config or PairConfig()
    draw = random.Random(config.seed)
    guard = NegativeGuard(texts, documents, config)
    rows: list[TrainingPair] = []
    for question in questions:
        scores = dict(dense[question.id])
        rows += [TrainingPair(question.text, texts[gold], 1.0, "gold") for gold in sorted(question.gold)]
        wanted = _round_at_random(len(question.gold) * config.negatives_per_positive, draw)
        at_random = [draw.randrange(len(texts)) for _ in range(_round_at_random(wanted * config.random_share, draw))]
        ranked = _interleave([dense[question.id], lexical[question.id]])
        hard = [p for p in ranked[: 2 * config.hard_depth] if guard.admits(question, p, scores)]
        deep = [p for p in ranked[2 * config.hard_depth : 2 * config.depth] if guard.admits(question, p, scores)]
        n_hard = min(len(hard), (wanted - len(at_random) + 1) // 2)
        chosen = draw.sample(hard, n_hard)
        chosen += draw.sample(deep, min(len(deep), wanted - len(at_random) - n_hard))
        rows += [TrainingPair(question.text, texts[p], 0.0, "mined") for p in chosen]
        rows += [
            TrainingPair(question.text, texts[p], 0.0, "random") for p in at_random if guard.admits(question, p, scores)
        ]
    return rows


def abstract_pairs(
    questions: Sequence[Question],
    abstracts: Sequence[Abstract],
    similar: Mapping[str, Sequence[str]],
    config: PairConfig | None = None,
    *,
    guard: NegativeGuard | None = None,
) -> list[TrainingPair]:
    """Return rows from whole abstracts: sentences that are no evidence, and abstracts as long passages.

    An abstract with evidence is a positive as a whole; the abstract of the most similar other question is a negative.
    So the model also sees passages longer than a snippet.

    :param questions: the questions.
    :param abstracts: the abstracts of those questions.
    :param similar: for each question id, ids of other questions, most similar first.
    :param config: numbers and thresholds.
    :param guard: if given, a sentence that repeats a gold passage is no negative, whatever its label says.
    """
    config = config or PairConfig()
    draw = random.Random(config.seed + 1)
    by_id = {question.id: question for question in questions}
    of_question: dict[str, list[Abstract]] = {}
    for abstract in abstracts:
        if abstract.question_id in by_id:
            of_question.setdefault(abstract.question_id, []).append(abstract)

    sentences: list[TrainingPair] = []
    rows: list[TrainingPair] = []
    for question_id, own in of_question.items():
        question = by_id[question_id]
        own_sentences = {abstract.sentences for abstract in own}
        for abstract in own:
            if not any(abstract.labels):
                continue
            sentences += [
                TrainingPair(question.text, sentence, 0.0, "same abstract")
                for sentence, label in zip(abstract.sentences, abstract.labels, strict=True)
                if not label and not (guard and guard.repeats_gold(question, sentence))
            ]
            if not config.whole_abstracts:
                continue
            rows.append(TrainingPair(question.text, " ".join(abstract.sentences), 1.0, "whole abstract"))
            other = next((o for o in similar.get(question_id, ()) if o in of_question), None)
            # Similar questions share abstracts: one that is evidence here is no negative.
            others = [a for a in of_question.get(other or "", ()) if a.sentences not in own_sentences]
            if others:
                negative = draw.choice(others)
                rows.append(TrainingPair(question.text, " ".join(negative.sentences), 0.0, "other abstract"))
    draw.shuffle(sentences)
    return sentences[: config.sentence_negatives] + rows


def _interleave(lists: Iterable[Sequence[tuple[int, float]]]) -> list[int]:
    """Merge ranked lists turn by turn, each position once."""
    merged: dict[int, None] = {}
    for group in zip_longest(*lists):  # one list may be shorter: BM25 finds only what shares a word
        merged.update((found[0], None) for found in group if found is not None)
    return list(merged)


def _round_at_random(value: float, draw: random.Random) -> int:
    """Round so that the mean over many calls is ``value``."""
    whole = int(value)
    return whole + (draw.random() < value - whole)
