"""Training rows: every rule of what may be a negative, checked on the rows that come out."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biorerank_plugins.training.negatives import Abstract, NegativeGuard, PairConfig, Question
from biorerank_plugins.training.pairs import abstract_pairs, mined_pairs
from biorerank_plugins.training.rows import TrainingPair, describe

TEXTS = [f"topic{i} word{i} fact{i}" for i in range(200)]
DOCUMENTS = [f"doc{i // 2}" for i in range(200)]
QUESTIONS = [
    Question(f"q{i}", f"what is topic{10 * i}", frozenset({10 * i}), frozenset({f"doc{5 * i}"})) for i in range(10)
]
RANKED = {
    question.id: [((10 * n + i) % 200, 1.0 - i / 100) for i in range(100)] for n, question in enumerate(QUESTIONS)
}


def test_positives_are_the_gold_and_no_negative_is_gold_or_of_a_gold_document():
    rows = mined_pairs(
        QUESTIONS, TEXTS, DOCUMENTS, RANKED, RANKED, PairConfig(random_share=0.5, negatives_per_positive=8)
    )
    by_text = {question.text: question for question in QUESTIONS}
    positives = [(row.question, row.passage) for row in rows if row.label == 1.0]
    assert positives == [(question.text, TEXTS[gold]) for question in QUESTIONS for gold in sorted(question.gold)]
    negatives = [row for row in rows if row.label == 0.0]
    assert {row.source for row in negatives} == {"mined", "random"}
    for row in negatives:
        position = TEXTS.index(row.passage)
        assert position not in by_text[row.question].gold
        assert DOCUMENTS[position] not in by_text[row.question].documents
        # RANKED gives the gold passage 1.0 and position n places further 1 - n/100.
        assert dict(RANKED[by_text[row.question].id]).get(position, 0.0) <= 0.95


def test_the_same_seed_gives_the_same_rows():
    first, second = (mined_pairs(QUESTIONS, TEXTS, DOCUMENTS, RANKED, RANKED) for _ in range(2))
    other = mined_pairs(QUESTIONS, TEXTS, DOCUMENTS, RANKED, RANKED, PairConfig(seed=1))
    assert first == second != other


def test_negatives_are_mined_where_one_list_is_short_or_empty():
    config = PairConfig(negatives_per_positive=4, random_share=0.0)
    for lexical in ({q.id: [] for q in QUESTIONS}, {q.id: RANKED[q.id][:3] for q in QUESTIONS}):
        rows = mined_pairs(QUESTIONS, TEXTS, DOCUMENTS, RANKED, lexical, config)
        assert Counter(row.source for row in rows) == {"gold": 10, "mined": 40}


@pytest.mark.parametrize(
    ("position", "score", "admitted"),
    [(0, 0.1, False), (1, 0.1, False), (2, 0.1, True), (2, 0.77, False), (3, 0.1, False), (4, 0.1, True)],
)
def test_the_guard(position, score, admitted):
    """0 is gold, 1 of its document, 2 another text, 3 shares three of four words with the gold, 4 two of four."""
    texts = ["a b c d", "x y", "x y", "a b c z", "a b y z"]
    guard = NegativeGuard(texts, ["d0", "d0", "d1", None, "d2"], PairConfig())
    question = Question("q", "?", frozenset({0}), frozenset({"d0"}))
    assert guard.admits(question, position, {0: 0.8, position: score}) == admitted


def _abstract(question: str, *sentences: tuple[str, int]) -> Abstract:
    return Abstract(question, tuple(s for s, _ in sentences), tuple(label for _, label in sentences))


def test_rows_of_abstracts():
    questions = [Question(f"q{i}", f"question {i}", frozenset(), frozenset()) for i in range(3)]
    shared = _abstract("q0", ("It acts.", 1), ("We looked.", 0))
    abstracts = [
        shared,
        _abstract("q1", ("It acts.", 1), ("We looked.", 0)),  # the same abstract answers question 1 as well
        _abstract("q1", ("Other.", 1)),
        _abstract("q2", ("Nothing here.", 0)),
        _abstract("unknown", ("x", 1)),
    ]
    rows = abstract_pairs(questions, abstracts, {"q0": ["gone", "q1"], "q1": ["q2"]})
    assert sorted((row.question, row.passage, row.label, row.source) for row in rows) == sorted(
        [
            ("question 0", "We looked.", 0.0, "same abstract"),
            ("question 0", "It acts. We looked.", 1.0, "whole abstract"),
            ("question 0", "Other.", 0.0, "other abstract"),  # never the abstract that is its own evidence
            ("question 1", "We looked.", 0.0, "same abstract"),
            ("question 1", "It acts. We looked.", 1.0, "whole abstract"),
            ("question 1", "Nothing here.", 0.0, "other abstract"),
            ("question 1", "Other.", 1.0, "whole abstract"),
            ("question 1", "Nothing here.", 0.0, "other abstract"),
        ]
    )
    few = abstract_pairs(questions, abstracts, {}, PairConfig(sentence_negatives=1))
    assert Counter(row.source for row in few) == {"same abstract": 1, "whole abstract": 3}


def test_the_statistics_of_a_card():
    rows = [TrainingPair("abc", "x", 1.0, "gold"), TrainingPair("a", "xyz", 0.0, "mined")]
    assert describe(rows) == {
        "rows": 2,
        "by_source": {"gold": 1, "mined": 1},
        "question_characters": [1, 2.0, 3],
        "passage_characters": [1, 2.0, 3],
        "label_mean": 0.5,
    }
    with pytest.raises(ValueError, match="no rows"):
        describe([])


@given(st.floats(0, 5), st.integers(0, 1000))
def test_the_number_of_negatives_is_right_in_the_mean(per_positive, seed):
    config = PairConfig(negatives_per_positive=per_positive, random_share=0.0, seed=seed)
    rows = mined_pairs(QUESTIONS[:1], TEXTS, DOCUMENTS, RANKED, RANKED, config)
    assert len(rows) - 1 in {int(per_positive), int(per_positive) + 1}
