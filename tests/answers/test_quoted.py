"""Extractive answers: quotes are verbatim, cited, ordered and not repeated."""

from __future__ import annotations

import json

import pytest

from biorerank_plugins import Evidence, Passage, RankedPassage, Ranking
from biorerank_plugins.answers.quoted import cite, compose_answer, quote
from biorerank_plugins.articles.metadata import MetadataKeys
from biorerank_plugins.passages import Answerability


def ranked(rank: int, text: str, *sentences: tuple[str, float], **about) -> RankedPassage:
    evidence = tuple(
        Evidence(s, text.index(s), text.index(s) + len(s), score=score, probability=score) for s, score in sentences
    )
    passage = Passage(f"p{rank}", text, **about)
    return RankedPassage(passage, rank - 1, rank, 1.0, 0.7, 0.7, evidence=evidence)


FIRST = ranked(1, "A is so. B follows. C too.", ("C too.", 0.9), ("A is so.", 0.6), metadata={"pmid": "11"})
SECOND = ranked(2, "D holds.  A is so!", ("D holds.", 0.8), ("A is so!", 0.5), title="On D")


def test_the_best_sentences_stand_in_the_order_of_the_ranking_and_of_the_text():
    answer = compose_answer(Ranking("q", (FIRST, SECOND)), max_sentences=3)
    assert answer.text == "A is so. [1] C too. [1] D holds. [2]"
    assert [(c.number, c.passage.id, c.text) for c in answer.citations] == [
        (1, "p1", "PMID: 11."),
        (2, "p2", "On D. p2."),
    ]
    for one in answer.quotes:
        passage = answer.citations[one.number - 1].passage
        assert passage.text[one.evidence.start : one.evidence.end] == one.evidence.text


def test_a_sentence_in_the_same_words_is_quoted_once():
    assert compose_answer(Ranking("q", (FIRST, SECOND)), max_sentences=9).text.count("A is so") == 1


def test_only_the_best_and_only_probable_ones():
    assert compose_answer(Ranking("q", (FIRST, SECOND)), max_sentences=1).text == "C too. [1]"
    assert compose_answer(Ranking("q", (FIRST, SECOND)), min_probability=0.85).text == "C too. [1]"
    assert compose_answer(Ranking("q", (FIRST, SECOND)), min_probability=1.0).text == ""


def test_numbers_follow_the_answer_and_not_the_ranking():
    silent = ranked(1, "Nothing here.", ("Nothing here.", 0.1))
    answer = compose_answer(Ranking("q", (silent, SECOND)), max_sentences=1)
    assert (answer.text, [c.passage.id for c in answer.citations]) == ("D holds. [1]", ["p2"])


@pytest.mark.parametrize("ranking", [Ranking("q"), Ranking("q", (FIRST,), no_evidence=True)])
def test_without_evidence_there_is_no_answer(ranking: Ranking):
    answer = compose_answer(ranking)
    assert (answer.text, answer.quotes, answer.citations) == ("", (), ())
    assert answer.no_evidence is bool(ranking.no_evidence)


def test_a_ranking_without_sentences_is_refused():
    bare = RankedPassage(Passage("1", "text"), 0, 1, 1.0, 0.7, 0.7)
    with pytest.raises(ValueError, match="evidence=1"):
        compose_answer(Ranking("q", (bare,)))


@pytest.mark.parametrize("options", [{"max_sentences": 0}, {"max_sentences": True}, {"min_probability": 2}])
def test_impossible_numbers_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        compose_answer(Ranking("q"), **options)


def test_the_answer_is_plain_json():
    document = json.loads(json.dumps(compose_answer(Ranking("q", (FIRST, SECOND))).to_dict()))
    assert document["quotes"][0]["passage"] == "p1"
    assert document["citations"][1]["text"] == "On D. p2."
    assert document["citations"][1]["retracted"] is False


def test_a_citation_says_that_its_article_is_retracted_and_follows_the_keys():
    about = {"title": "On D", "metadata": {"when": "2019-02", "is_retracted": True}}
    ranking = Ranking("q", (ranked(1, "D holds.", ("D holds.", 0.8), **about),))
    [citation] = compose_answer(ranking, metadata_keys=MetadataKeys(year="when")).citations
    assert (citation.text, citation.retracted) == ("On D [retracted]. 2019. p1.", True)
    with pytest.raises(TypeError, match="metadata_keys must be MetadataKeys or None, got dict"):
        compose_answer(ranking, metadata_keys={"year": "when"})


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({"title": "T.", "metadata": {"doi": "10.1000/x", "year": 2020}}, "T. 2020. doi: 10.1000/x."),
        ({"metadata": {"document": "http://www.ncbi.nlm.nih.gov/pubmed/1"}}, "PMID: 1."),
        ({}, "7."),
    ],
)
def test_references(about, expected: str):
    assert cite(Passage("7", "x", **about)) == expected


def test_questions_of_passages_are_quoted_only_where_there_is_nothing_else():
    def evidence(text: str, score: float) -> Evidence:
        return Evidence(text, 0, len(text), score=score, probability=score)

    asked, said = evidence("Does it help?", 0.9), evidence("It helps.", 0.5)
    passage = Passage("1", "Does it help? It helps.")
    assert quote("q", [(passage, [asked, said])]).text == "It helps. [1]"
    assert quote("q", [(passage, [asked])]).text == "Does it help? [1]"


def answerable(state: str, **about) -> Answerability:
    return Answerability(state, 0.4, **about)  # type: ignore[arg-type]


def test_where_one_is_not_sure_nothing_is_quoted_and_the_nearest_passages_are_named():
    more = [ranked(n, f"Text {n} is.", (f"Text {n} is.", 0.5)) for n in range(3, 9)]
    unsure = answerable("not_sure", unseen=("nintedanib",))
    answer = compose_answer(Ranking("q", (FIRST, SECOND, *more), answerability=unsure))
    assert (answer.state, answer.text, answer.quotes, answer.citations) == ("not_sure", "", (), ())
    assert answer.why == "No passage that was found says 'nintedanib'."
    assert [(c.number, c.passage.id) for c in answer.nearest] == [(1, "p1"), (2, "p2"), (3, "p3")]
    told = json.loads(json.dumps(answer.to_dict()))
    assert (told["state"], len(told["nearest"]), told["quotes"]) == ("not_sure", 3, [])


def test_where_nothing_was_found_no_passage_is_named():
    answer = compose_answer(Ranking("q", (FIRST,), answerability=answerable("nothing")))
    assert (answer.state, answer.quotes, answer.nearest) == ("nothing", (), ())
    assert compose_answer(Ranking("q")).state == "nothing"


def test_the_decision_of_three_counts_and_not_the_threshold_of_the_passages():
    answer = compose_answer(Ranking("q", (FIRST,), no_evidence=True, answerability=answerable("answered")))
    assert (answer.state, answer.no_evidence, len(answer.quotes)) == ("answered", True, 2)


def test_a_sentence_below_the_threshold_is_never_an_answer():
    text = "A is so. B follows."
    weak = Evidence("A is so.", 0, 8, score=0.2, probability=0.1, quotable=False)
    good = Evidence("B follows.", 9, 19, score=0.1, probability=0.3)
    passage = Passage("p", text)
    both = RankedPassage(passage, 0, 1, 1.0, 0.7, 0.7, evidence=(weak, good))
    assert compose_answer(Ranking("q", (both,))).text == "B follows. [1]"
    only = RankedPassage(passage, 0, 1, 1.0, 0.7, 0.7, evidence=(weak,))
    answer = compose_answer(Ranking("q", (only,)))
    assert (answer.state, answer.why, len(answer.nearest)) == ("not_sure", "No single sentence says it.", 1)
