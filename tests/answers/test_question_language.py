"""Notes on questions: on the ones that need one, and on no other."""

from __future__ import annotations

from importlib import resources

import pytest

from biorerank_plugins.answers.question_language import question_notes
from biorerank_plugins.readers import find_beir, read_queries

FOREIGN = (
    "Welche Medikamente werden bei Gicht eingesetzt?",
    "Quels sont les effets secondaires des statines ?",
    "¿Qué fármacos se usan para el tratamiento del asma?",
    "Quali sono gli effetti della metformina?",
    "Quais são os efeitos da metformina no fígado e em uma criança?",
    "二甲双胍会导致维生素B12缺乏吗？",
    "Какие лекарства вызывают боль в мышцах?",
)


@pytest.mark.parametrize("question", FOREIGN)
def test_other_languages_are_noticed(question: str):
    [note] = question_notes(question)
    assert "Ask in English" in note


@pytest.mark.parametrize(
    "question",
    ["metformin B12", "Is TNF-α raised in de novo AML?", "BRCA1 c.68_69delAG", "", "???", "ω-3 β α γ levels"],
)
def test_english_and_bare_terms_are_not(question: str):
    assert question_notes(question) == []


def test_no_question_of_the_demo_is_taken_for_foreign():
    with resources.as_file(resources.files("biorerank_plugins") / "demo") as folder:
        questions = [query.text for query in read_queries(find_beir(folder).queries)]
    assert len(questions) == 60
    assert [question for question in questions if question_notes(question)] == []


def test_long_questions_are_noticed():
    [note] = question_notes("Which drug reverses dabigatran? " * 320)
    assert note.startswith("The question has 10,240 characters")
