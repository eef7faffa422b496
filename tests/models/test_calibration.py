"""Calibration: fitted values against data made from known ones, and what a reranker does with what is stored."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from biorerank_plugins import BioReranker
from biorerank_plugins.errors import ModelError
from biorerank_plugins.models.calibration import Calibration, fit_calibration

QUERY = "which drug inhibits platelets"
TEXTS = ["aspirin inhibits platelets", "insulin lowers glucose", "cells divide"]


def test_the_values_that_made_the_data_are_found():
    draw = np.random.default_rng(0)
    logits = draw.normal(0, 3, 40_000)
    true = 1 / (1 + np.exp(-(0.7 * logits - 1.5)))
    fitted = fit_calibration(logits.tolist(), (draw.random(40_000) < true).tolist())
    assert fitted.slope == pytest.approx(0.7, abs=0.03)
    assert fitted.intercept == pytest.approx(-1.5, abs=0.06)


def test_the_mean_probability_is_the_share_of_relevant_ones():
    """The likelihood equation of the intercept, which only the maximum fulfils."""
    logits, relevant = [3.0, 2.0, 1.5, 0.5, 0.0, -1.0, -2.0], [True, False, True, True, False, False, False]
    fitted = fit_calibration(logits, relevant)
    probabilities = [fitted.probability(logit) for logit in logits]
    assert sum(probabilities) == pytest.approx(3, abs=1e-3)
    assert sum(p * x for p, x in zip(probabilities, logits, strict=True)) == pytest.approx(5.0, abs=1e-2)


@pytest.mark.parametrize("relevant", [[True] * 3, [False] * 3])
def test_one_kind_alone_cannot_be_fitted(relevant: list[bool]):
    with pytest.raises(ValueError, match="both kinds"):
        fit_calibration([1.0, 2.0, 3.0], relevant)


def test_a_model_that_ranks_the_wrong_way_round_is_refused():
    with pytest.raises(ValueError, match="not more often relevant"):
        fit_calibration([1.0, 2.0, 3.0, 4.0, 0.0], [True, False, False, False, True])


@pytest.mark.parametrize(
    "values",
    [
        {"slope": 0},
        {"slope": -1},
        {"slope": math.nan},
        {"intercept": math.inf},
        {"evidence_threshold": 1.5},
        {"bias": 1},
        {"slope": "1"},
    ],
)
def test_impossible_values_are_refused(values):
    with pytest.raises(ValueError, match=r"slope|intercept|evidence_threshold|bias"):
        Calibration.of(values)


def store(source: Path, folder: Path, content: object) -> BioReranker:
    shutil.copytree(source, folder)
    (folder / "biorerank.json").write_text(json.dumps({"calibration": content}), encoding="utf-8")
    return BioReranker(folder, device="cpu", dtype="float32")


def test_probabilities_are_calibrated_and_scores_are_not(tiny_cross_encoder_dir: Path, tmp_path: Path):
    plain = BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32").rank(QUERY, TEXTS)
    content = {"slope": 0.5, "intercept": -2.0, "evidence_threshold": 0.0}
    ranking = store(tiny_cross_encoder_dir, tmp_path / "m", content).rank(QUERY, TEXTS, evidence=1)
    assert [(r.logit, r.score) for r in ranking] == [(r.logit, r.score) for r in plain]
    for ranked in ranking:
        assert ranked.probability == pytest.approx(1 / (1 + math.exp(2.0 - 0.5 * ranked.logit)))
        [sentence] = ranked.evidence  # the passage is one sentence
        assert sentence.probability == pytest.approx(ranked.probability, abs=1e-5)
    assert plain.no_evidence is None
    assert ranking.no_evidence is False


@pytest.mark.parametrize(("threshold", "expected"), [(1.0, True), (0.0, False)])
def test_no_evidence_compares_the_best_probability(tiny_cross_encoder_dir: Path, tmp_path: Path, threshold, expected):
    reranker = store(tiny_cross_encoder_dir, tmp_path / "m", {"evidence_threshold": threshold})
    assert reranker.rank(QUERY, TEXTS, top_k=1, min_score=0.999999).no_evidence is expected
    assert reranker.rank(QUERY, []).no_evidence is True


@pytest.mark.parametrize("content", [{"slope": 0}, 3, {"unknown": 1}])
def test_a_damaged_calibration_is_named(tiny_cross_encoder_dir: Path, tmp_path: Path, content):
    with pytest.raises(ModelError, match=r"biorerank\.json is damaged"):
        store(tiny_cross_encoder_dir, tmp_path / "m", content).rank(QUERY, TEXTS)
