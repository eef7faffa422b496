"""Evidence sentences: each is scored as it is alone, and its offsets lead back to it."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

from biorerank_plugins import BioReranker, Boosts, Passage

QUERY = "which drug inhibits platelets"
TEXT = "The heart divides. Aspirin inhibits platelets.  Insulin lowers glucose! Is it so?"
SENTENCES = ["The heart divides.", "Aspirin inhibits platelets.", "Insulin lowers glucose!", "Is it so?"]


@pytest.fixture
def reranker(tiny_cross_encoder_dir: Path) -> BioReranker:
    return BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32")


def test_the_best_sentences_are_those_that_score_best_alone(reranker: BioReranker):
    alone = {r.passage.text: r for r in reranker.rank(QUERY, SENTENCES)}
    [ranked] = reranker.rank(QUERY, [Passage("1", TEXT, title="A title")], evidence=2)
    expected = sorted(SENTENCES, key=lambda s: -alone[s].logit)[:2]
    assert [e.text for e in ranked.evidence] == expected
    for sentence in ranked.evidence:
        assert TEXT[sentence.start : sentence.end] == sentence.text
        assert sentence.score == pytest.approx(alone[sentence.text].score, abs=1e-5)
        assert sentence.probability == pytest.approx(alone[sentence.text].probability, abs=1e-5)


def test_all_sentences_if_more_are_asked_for_and_none_of_an_empty_passage(reranker: BioReranker):
    by_text = {r.passage.text: r for r in reranker.rank(QUERY, [TEXT, "", " \n "], evidence=9)}
    assert sorted(e.text for e in by_text[TEXT].evidence) == sorted(SENTENCES)
    assert by_text[""].evidence == by_text[" \n "].evidence == ()


def test_only_returned_passages_have_evidence_and_ranking_is_as_without(reranker: BioReranker):
    texts = [TEXT, "Cells divide. So they do.", "A drug."]
    plain = reranker.rank(QUERY, texts, top_k=2)
    with_sentences = reranker.rank(QUERY, texts, top_k=2, evidence=1)
    assert [(r.passage, r.logit) for r in plain] == [(r.passage, r.logit) for r in with_sentences]
    assert [len(r.evidence) for r in plain] == [0, 0]
    assert [len(r.evidence) for r in with_sentences] == [1, 1]
    assert set(with_sentences.timings) == {"rerank", "evidence"}
    json.dumps(with_sentences.to_dict())


def test_a_lone_surrogate_does_not_lose_the_ranking(reranker: BioReranker):
    text = "cells \ud800 divide. Aspirin inhibits platelets."
    [ranked] = reranker.rank(QUERY, [text], evidence=2)
    assert sorted(text[e.start : e.end] for e in ranked.evidence) == [
        "Aspirin inhibits platelets.",
        "cells \ud800 divide.",
    ]


def test_several_queries_get_their_own_evidence(reranker: BioReranker):
    requests = [(QUERY, [TEXT]), ("a", ["Cells divide. So they do."]), ("b", [])]
    together = reranker.rank_many(requests, evidence=1)
    for (query, texts), ranking in zip(requests, together, strict=True):
        alone = reranker.rank(query, texts, evidence=1)
        assert [[e.text for e in r.evidence] for r in ranking] == [[e.text for e in r.evidence] for r in alone]


def test_evidence_of_a_long_passage_lies_in_its_best_window(tiny_cross_encoder_dir: Path):
    reranker = BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32", max_length=48, query_max_length=16)
    text = "The cells divide. " * 20 + "Aspirin inhibits platelets. " + "The heart. " * 20
    [ranked] = reranker.rank(QUERY, [text], evidence=3)
    assert ranked.window is not None
    assert all(e.end > ranked.window[0] and e.start < ranked.window[1] for e in ranked.evidence)
    assert all(text[e.start : e.end] == e.text for e in ranked.evidence)


def test_evidence_of_a_window_are_all_sentences_that_it_touches(tiny_cross_encoder_dir: Path):
    """Wherever the best window lies; a sentence beside it is none, and one that it cuts is there as a whole."""
    reranker = BioReranker(
        tiny_cross_encoder_dir, device="cpu", dtype="float32", max_length=48, query_max_length=16, window_length=11
    )
    sentences = [
        f"The cells {word} divide in patients." for word in "a b c d e lowers raises heart liver brain".split()
    ]
    text, borders = "", []
    for sentence in sentences:
        borders.append((len(text), len(text) + len(sentence)))
        text += f"{sentence} "
    queries = ["a b", "lowers", "heart failure", "is", "p53", "which drug", "kidney", "c", "first", "platelets"]
    windows = set()
    for [ranked] in reranker.rank_many([(query, [text]) for query in queries], evidence=99):
        assert ranked.window is not None
        windows.add(ranked.window)
        inside = set(range(*ranked.window))
        expected = [border for border in borders if inside & set(range(*border))]
        assert sorted((e.start, e.end) for e in ranked.evidence) == expected
    starts, ends = zip(*windows, strict=True)
    assert max(starts) > borders[1][1]  # some lie behind other sentences,
    assert min(ends) < borders[-2][0]  # and some before


@pytest.mark.parametrize("evidence", [-1, 1.5, True, "2"])
def test_an_impossible_number_is_refused_even_without_passages(reranker: BioReranker, evidence):
    with pytest.raises(ValueError, match="evidence"):
        reranker.rank(QUERY, [], evidence=evidence)


def stored(model: Path, folder: Path, **content: object) -> BioReranker:
    """A copy of a model that stores something."""
    shutil.copytree(model, folder / "stored")
    (folder / "stored/biorerank.json").write_text(json.dumps(content), encoding="utf-8")
    return BioReranker(folder / "stored", device="cpu", dtype="float32")


def test_a_sentence_is_scored_in_the_words_of_the_question(reranker: BioReranker):
    query = "which drug lowers platelets"
    sentences = ["Platelets (PL) divide.", "Insulin lowers them.", "Aspirin inhibits PL."]
    read = [
        "Platelets (PL) divide.",
        "Insulin lowers Platelets.",
        "Aspirin inhibits PL.",
        "Aspirin inhibits Platelets.",
    ]
    logits = {r.passage.text: r.logit for r in reranker.rank(query, read)}
    *expected, short, long = (logits[text] for text in read)
    wanted = dict(zip(sentences, [*expected, (short + long) / 2], strict=True))
    [ranked] = reranker.rank(query, [" ".join(sentences)], evidence=3)
    assert [e.text for e in ranked.evidence] == sorted(sentences, key=lambda s: -wanted[s])
    for sentence in ranked.evidence:
        assert sentence.probability == pytest.approx(1 / (1 + math.exp(-wanted[sentence.text])), abs=1e-5)
        assert sentence.quotable


def test_the_passage_counts_with_the_weight_that_is_stored(
    tiny_cross_encoder_dir: Path, tmp_path: Path, reranker: BioReranker
):
    alone = {r.passage.text: r.logit for r in reranker.rank(QUERY, SENTENCES)}
    calibration = {"slope": 0.5, "intercept": -0.25, "evidence_threshold": 0.0}
    model = stored(tiny_cross_encoder_dir, tmp_path, evidence={"passage_weight": 0.5, "calibration": calibration})
    [ranked] = model.rank(QUERY, [TEXT], evidence=4)
    for sentence in ranked.evidence:
        if sentence.text == "Is it so?":  # is read in its context
            continue
        value = alone[sentence.text] + 0.5 * ranked.logit
        assert sentence.score == pytest.approx(1 / (1 + math.exp(-value)), abs=1e-5)
        assert sentence.probability == pytest.approx(1 / (1 + math.exp(0.25 - 0.5 * value)), abs=1e-5)
        assert sentence.quotable
    boosts = {"recency_weight": 2.0, "recency_half_life_years": 5.0, "reference_year": 2020}
    [boosted] = model.rank(QUERY, [Passage("1", TEXT, metadata={"year": 2020})], evidence=4, boosts=Boosts(**boosts))
    assert boosted.boost > 0  # of an article, no better evidence
    for one, other in zip(boosted.evidence, ranked.evidence, strict=True):
        assert (one.text, one.score) == (other.text, pytest.approx(other.score, abs=1e-6))


def test_a_sentence_at_the_stored_threshold_may_be_quoted(tiny_cross_encoder_dir: Path, tmp_path: Path):
    calibration = {"slope": 0.5, "intercept": 0.0, "evidence_threshold": 0.0}
    [ranked] = stored(tiny_cross_encoder_dir, tmp_path, evidence={"calibration": calibration}).rank(
        QUERY, [TEXT], evidence=2
    )
    best, second = ranked.evidence
    assert best.probability > second.probability
    shutil.rmtree(tmp_path / "stored")
    calibration["evidence_threshold"] = best.probability
    [ranked] = stored(tiny_cross_encoder_dir, tmp_path, evidence={"calibration": calibration}).rank(
        QUERY, [TEXT], evidence=2
    )
    assert [(e.probability, e.quotable) for e in ranked.evidence] == [
        (best.probability, True),
        (second.probability, False),
    ]


def test_sentences_below_the_stored_threshold_are_shown_but_may_not_be_quoted(
    tiny_cross_encoder_dir: Path, tmp_path: Path
):
    calibration = {"slope": 0.001, "intercept": 0.0, "evidence_threshold": 0.9}
    [ranked] = stored(tiny_cross_encoder_dir, tmp_path, evidence={"calibration": calibration}).rank(
        QUERY, [TEXT], evidence=2
    )
    assert [e.quotable for e in ranked.evidence] == [False, False]
