"""What is stored with the embedded reranker is what the committed fit found."""

from __future__ import annotations

import json

import pytest
from support import ROOT

from biorerank_plugins import models


def test_fusion_and_its_calibrations_are_those_of_the_fit():
    fitted = json.loads((ROOT / "benchmarks" / "results" / "stored.json").read_text(encoding="utf-8"))["stored"]
    stored = json.loads((models.path(models.DEFAULT_RERANKER) / "biorerank.json").read_text(encoding="utf-8"))
    assert stored["fusion"].keys() == fitted["fusion"].keys()
    for name, own in stored["fusion"].items():
        found = fitted["fusion"][name]
        assert own["weight"] == found["weight"]
        assert own["reference"] == pytest.approx(found["reference"], abs=1e-4)
        assert own["calibration"] == pytest.approx(found["calibration"], abs=1e-4)


def test_the_three_answers_and_the_sentences_are_those_of_the_fit():
    fitted = json.loads((ROOT / "benchmarks" / "results" / "stored.json").read_text(encoding="utf-8"))["stored"]
    stored = json.loads((models.path(models.DEFAULT_RERANKER) / "biorerank.json").read_text(encoding="utf-8"))
    assert stored["answering"] == fitted["answering"]
    assert stored["evidence"] == fitted["evidence"]


def test_the_weight_of_the_rank_is_the_one_that_was_chosen():
    behind = json.loads((ROOT / "benchmarks" / "results" / "behind.json").read_text(encoding="utf-8"))
    stored = json.loads((models.path(models.DEFAULT_RERANKER) / "biorerank.json").read_text(encoding="utf-8"))
    assert stored["rank_weight"] == behind["rank weight"] == behind["dev"]["choice"]["chosen"]


def test_how_far_a_list_is_read_is_what_was_chosen():
    chosen = json.loads((ROOT / "benchmarks" / "results" / "effort.json").read_text(encoding="utf-8"))["chosen"]
    stored = json.loads((models.path(models.DEFAULT_RERANKER) / "biorerank.json").read_text(encoding="utf-8"))
    names = {stage: f"{stage}/" * (stage == "hybrid") + models.DEFAULT_ENCODER for stage in ("hybrid", "dense")}
    for stage, name in {**names, "lexical": "lexical"}.items():
        assert stored["fusion"][name].get("quantile") == chosen[stage]
    assert chosen["unknown"] is None  # what the model does not know has no entry
