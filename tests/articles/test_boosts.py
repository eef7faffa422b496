"""Boosts of recent articles and kinds of study: they move passages and change no score."""

from __future__ import annotations

import copy
import math
import pickle
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.scorers import by_number

from biorerank_plugins import BioReranker, Candidate, Passage
from biorerank_plugins.articles.boosts import Boosts
from biorerank_plugins.articles.metadata import MetadataKeys


def article(logit: float, id_: str = "p", **metadata: object) -> Passage:
    return Passage(id_, f"{logit} text", metadata=metadata)


@pytest.mark.parametrize(
    ("year", "boost"), [(2026, 2.0), (2021, 1.0), (2016, 0.5), (2027, 2.0), (2028, 0.0), (None, 0.0), ("?", 0.0)]
)
def test_recency_halves_with_each_half_life(year, boost):
    boosts = Boosts(recency_half_life_years=5, recency_weight=2.0, reference_year=2026)
    assert boosts.of(article(0, year=year)) == pytest.approx(boost)


@given(st.integers(1500, 2026), st.integers(1500, 2026), st.floats(0.1, 1000), st.floats(0, 100))
def test_the_younger_article_never_gets_less(a, b, half_life, weight):
    boosts = Boosts(recency_half_life_years=half_life, recency_weight=weight, reference_year=2026)
    young, old = boosts.of(article(0, year=max(a, b))), boosts.of(article(0, year=min(a, b)))
    assert 0 <= old <= young <= weight
    assert old == pytest.approx(weight * math.exp(-math.log(2) * (2026 - min(a, b)) / half_life), abs=1e-9)


def test_this_year_is_that_of_the_clock():
    boosts = Boosts(recency_half_life_years=5)
    before = date.today().year
    assert boosts.of(article(0, year=before)) in (1.0, 0.5 ** (1 / 5))


@pytest.mark.parametrize(
    ("types", "boost"),
    [
        (["Meta-Analysis"], 0.8),
        (["META ANALYSIS", "Journal Article"], 0.8),
        ("Review; MetaAnalysis", 0.8),
        (["Review"], 0.3),
        (["Review", "Case Reports"], 0.3 - 0.5),
        (["Letter"], 0.0),
        ([], 0.0),
        (None, 0.0),
    ],
)
def test_kinds_of_study(types, boost):
    boosts = Boosts(publication_types={"Meta-Analysis": 0.8, "Review": 0.3, "case reports": -0.5})
    assert boosts.of(article(0, publication_types=types)) == pytest.approx(boost)


def test_the_order_is_by_logit_plus_boost_and_nothing_else_changes():
    passages = [article(1.0, "old", year=2006), article(0.9, "none"), article(0.5, "new", year=2026)]
    reranker = BioReranker(by_number())
    plain = reranker.rank("q", passages)
    boosted = reranker.rank("q", passages, boosts=Boosts(recency_half_life_years=10, reference_year=2026))
    assert [(r.passage.id, r.boost) for r in plain] == [("old", 0.0), ("none", 0.0), ("new", 0.0)]
    assert [(r.passage.id, r.boost) for r in boosted] == [("new", 1.0), ("old", 0.25), ("none", 0.0)]
    assert [r.rank for r in boosted] == [1, 2, 3]
    before = {r.passage.id: (r.logit, r.fused) for r in plain}
    assert {r.passage.id: (r.logit, r.fused) for r in boosted} == before
    for r in boosted:  # what is shown is made of what orders
        assert r.score == pytest.approx(1 / (1 + math.exp(-(r.logit + r.boost))))
    assert boosted[0].to_dict()["boost"] == 1.0


def test_thresholds_do_not_see_the_boost_but_the_cut_does():
    passages = [article(-1.0, "new", year=2026), article(0.5, "old", year=1950)]
    reranker, boosts = (
        BioReranker(by_number()),
        Boosts(recency_half_life_years=1, recency_weight=9, reference_year=2026),
    )
    assert [r.passage.id for r in reranker.rank("q", passages, boosts=boosts, top_k=1)] == ["new"]
    assert [r.passage.id for r in reranker.rank("q", passages, boosts=boosts, min_probability=0.5)] == ["old"]


def test_boosts_come_on_top_of_fusion():
    found = [Candidate(article(0.0, "a"), 1.0), Candidate(article(0.0, "b", year=2026), 0.5)]
    boosts = Boosts(recency_half_life_years=5, reference_year=2026)
    first, second = BioReranker(by_number()).rank("q", found, fusion=1.0, boosts=boosts)
    assert (first.passage.id, first.fused, first.boost) == ("b", -0.5, 1.0)  # 0.5 below the best of the list
    assert (second.passage.id, second.fused, second.boost) == ("a", 0.0, 0.0)


@given(st.lists(st.tuples(st.integers(-3, 3), st.none() | st.integers(2000, 2026)), max_size=8))
def test_against_a_plain_sort(drawn):
    passages = [article(float(logit), str(n), year=year) for n, (logit, year) in enumerate(drawn)]
    ranking = BioReranker(by_number()).rank(
        "q", passages, boosts=Boosts(recency_half_life_years=4, reference_year=2026)
    )

    def value(n: int) -> float:
        logit, year = drawn[n]
        return logit + (0.0 if year is None else 0.5 ** ((2026 - year) / 4))

    assert [r.input_index for r in ranking] == sorted(range(len(drawn)), key=lambda n: (-value(n), n))


def test_keys_of_the_reranker_say_where_year_and_type_stand():
    keys = MetadataKeys(year="issued", publication_types="design")
    boosts = Boosts(recency_half_life_years=5, publication_types={"RCT": 2}, reference_year=2026)
    [ranked] = BioReranker(by_number(), metadata_keys=keys).rank(
        "q", [article(0, issued=2026, design="rct")], boosts=boosts
    )
    assert ranked.boost == 3.0
    assert BioReranker(by_number()).rank("q", [article(0, issued=2026, design="rct")], boosts=boosts)[0].boost == 0.0


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"recency_half_life_years": 0}, ValueError, "recency_half_life_years"),
        ({"recency_half_life_years": -1}, ValueError, "recency_half_life_years"),
        ({"recency_half_life_years": math.inf}, ValueError, "recency_half_life_years"),
        ({"recency_half_life_years": math.nan}, ValueError, "recency_half_life_years"),
        ({"recency_half_life_years": "5"}, ValueError, "recency_half_life_years"),
        ({"recency_weight": -1}, ValueError, "recency_weight"),
        ({"reference_year": 2026.5}, ValueError, "reference_year"),
        ({"publication_types": ["Review"]}, TypeError, "publication_types"),
        ({"publication_types": {1: 1.0}}, TypeError, "publication_types"),
        ({"publication_types": {"": 1.0}}, ValueError, "publication_types"),
        ({"publication_types": {"Review": math.nan}}, ValueError, "Review"),
        ({"publication_types": {"Review": True}}, ValueError, "Review"),
        ({"publication_types": {"Meta-Analysis": 1, "meta analysis": 2}}, ValueError, "same kind"),
    ],
)
def test_impossible_boosts_are_refused(options, error, said):
    with pytest.raises(error, match=said):
        Boosts(**options)


def test_only_boosts_are_taken_for_boosts():
    with pytest.raises(TypeError, match="boosts must be Boosts or None, got dict"):
        BioReranker(by_number()).rank("q", [], boosts={"recency_half_life_years": 5})


def test_boosts_are_values():
    weights = {"Review": 0.5}
    boosts = Boosts(3.0, publication_types=weights)
    weights["Review"] = 9.0
    assert boosts == Boosts(3.0, publication_types={"Review": 0.5})
    assert pickle.loads(pickle.dumps(boosts)) == copy.deepcopy(boosts) == boosts
    assert hash(boosts) == hash(copy.deepcopy(boosts))
