"""Whether the answer is among the candidates: three states from what is stored, and the words nobody says."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

from biorerank_plugins import BioReranker, Boosts, Passage
from biorerank_plugins.reranking.answerable import unseen_words

QUERY = "Does nintedanib inhibit platelets?"
TEXTS = ["Aspirin inhibits platelets.", "Insulin lowers glucose.", "The heart divides."]


@pytest.fixture
def reranker(tiny_cross_encoder_dir: Path, tmp_path: Path):
    def build(answered: float, nothing: float, **weights: float) -> BioReranker:
        folder = tmp_path / "model"
        shutil.copytree(tiny_cross_encoder_dir, folder)
        values = {"best": 1.0, "second": 0.5, "intercept": 0.1, **weights}
        content = {"answering": {**values, "answered": answered, "nothing": nothing}}
        (folder / "biorerank.json").write_text(json.dumps(content), encoding="utf-8")
        return BioReranker(folder, device="cpu", dtype="float32")

    return build


@pytest.mark.parametrize(
    ("answered", "nothing", "state"), [(0.0, 0.0, "answered"), (1.0, 0.0, "not_sure"), (1.0, 1.0, "nothing")]
)
def test_the_stored_limits_make_the_state(reranker, answered: float, nothing: float, state: str):
    found = reranker(answered, nothing).rank(QUERY, TEXTS).answerability
    assert found is not None and found.state == state
    assert found.unseen == (() if state == "answered" else ("nintedanib",))
    assert ("nintedanib" in found.why) == (state != "answered")


def test_the_probability_is_made_of_the_best_candidates(reranker):
    ranking = reranker(0.5, 0.1).rank(QUERY, TEXTS)
    logits = [ranked.logit for ranked in ranking]
    z = logits[0] + 0.5 * logits[1] + 0.1
    assert ranking.answerability is not None
    assert ranking.answerability.probability == pytest.approx(1 / (1 + math.exp(-z)), abs=1e-5)


def test_thresholds_cuts_and_boosts_change_nothing_of_it(reranker):
    model = reranker(0.5, 0.1)
    passages = [Passage(str(n), text, metadata={"year": 2000 + n}) for n, text in enumerate(TEXTS)]
    plain = model.rank(QUERY, passages).answerability
    assert plain == model.rank(QUERY, passages, top_k=1, min_probability=1.0).answerability
    assert (
        plain
        == model.rank(QUERY, passages, boosts=Boosts(recency_half_life_years=2.0, reference_year=2010)).answerability
    )


def test_it_is_json_and_absent_where_nothing_is_scored_or_stored(reranker, tiny_cross_encoder_dir: Path):
    model = reranker(1.0, 0.0)
    told = json.loads(json.dumps(model.rank(QUERY, TEXTS).to_dict()))["answerability"]
    assert (told["state"], told["unseen"]) == ("not_sure", ["nintedanib"])
    assert model.rank(QUERY, []).answerability is None
    assert BioReranker(tiny_cross_encoder_dir).rank(QUERY, TEXTS).answerability is None


@pytest.mark.parametrize(
    ("query", "texts", "expected"),
    [
        ("What causes Parkinson's disease?", ["Causes of a disease."], ("parkinson",)),
        ("Is TNFα raised?", ["TNF-alpha was raised."], ()),
        ("Are statins good?", [], ("statins", "good")),
        ("Why is it so?", ["Nothing."], ()),
        ("", ["Nothing."], ()),
        ("Sjögren", ["Sjogren syndrome"], ()),
    ],
)
def test_unseen_words_are_those_that_no_form_of_a_word_covers(query: str, texts: list[str], expected: tuple[str, ...]):
    assert unseen_words(query, texts) == expected
