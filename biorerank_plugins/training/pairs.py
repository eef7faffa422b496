"""(question, passage, 0/1) rows for training a cross-encoder, built from BioASQ questions and their gold snippets.

Positives are the gold snippets. Negatives look alike but do not answer: passages of *other* questions that a bi-encoder
or BM25 finds for the question, sentences of the same abstract that are no evidence, whole abstracts of similar
questions, and a few random ones. What may be an unjudged positive is kept out (see :class:`~.negatives.NegativeGuard`).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest

from biorerank_plugins.training.negatives import Abstract, Candidates, NegativeGuard, PairConfig, Question
from biorerank_plugins.training.rows import TrainingPair


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
    """Return gold snippets as positives; as negatives those that are known, and mined passages of other questions."""
    config = config or PairConfig()
    draw = random.Random(config.seed)
    guard = NegativeGuard(texts, documents, config)
    rows: list[TrainingPair] = []
    for question in questions:
        scores = dict(dense[question.id])
        given = sorted(question.negatives - question.gold)
        wanted = _round_at_random(len(question.gold) * config.negatives_per_positive, draw)
        wanted = max(0, wanted - len(given))
        at_random = [draw.randrange(len(texts)) for _ in range(_round_at_random(wanted * config.random_share, draw))]
        ranked = _interleave([dense[question.id], lexical[question.id]])
        hard = [p for p in ranked[: 2 * config.hard_depth] if guard.admits(question, p, scores)]
        deep = [p for p in ranked[2 * config.hard_depth : 2 * config.depth] if guard.admits(question, p, scores)]
        n_hard = min(len(hard), (wanted - len(at_random) + 1) // 2)
        chosen = draw.sample(hard, n_hard)
        chosen += draw.sample(deep, min(len(deep), wanted - len(at_random) - n_hard))
        kinds = {"gold": sorted(question.gold), "given": given, "mined": chosen}
        kinds["random"] = [p for p in at_random if guard.admits(question, p, scores)]
        rows += [
            TrainingPair(question.text, texts[p], float(kind == "gold"), kind)
            for kind, positions in kinds.items()
            for p in positions
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
