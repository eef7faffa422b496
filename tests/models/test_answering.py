"""What is stored to tell whether a question is answered, and how sentences are read."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from biorerank_plugins.errors import ModelError
from biorerank_plugins.models.answering import AnswerModel, EvidenceModel, relevance_features
from biorerank_plugins.models.stored import StoredValues

VALUES = {"best": 1.0, "second": 0.5, "intercept": -1, "answered": 0.6, "nothing": 0.2}
IMPOSSIBLE = [
    {"answering": {**VALUES, "nothing": 0.7}},
    {"answering": {**VALUES, "best": "much"}},
    {"answering": {**VALUES, "answered": float("nan")}},
    {"answering": {"best": 1}},
    {"answering": {**VALUES, "more": 1}},
    {"answering": [1]},
    {"evidence": {"passage_weight": -1}},
    {"evidence": {"calibration": {"slope": 0}}},
    {"evidence": {"calibration": 3}},
    {"evidence": {"window": 3}},
    {"evidence": "alone"},
]


def folder_with(folder: Path, content: object) -> Path:
    (folder / "config.json").write_text("{}", encoding="utf-8")
    (folder / "biorerank.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_the_probability_is_that_of_the_logistic_model():
    odds = [2.0, -1.0, 0.5, -3.0, -2.0, -4.0]
    assert relevance_features(odds) == (2.0, 0.5)
    z = 1.0 * 2.0 + 0.5 * 0.5 - 1
    assert AnswerModel.of(VALUES).probability(odds) == pytest.approx(1 / (1 + math.exp(-z)))


def test_one_candidate_is_its_own_second():
    assert relevance_features([0.5]) == (0.5, 0.5)


def test_what_is_stored_comes_back(tmp_path: Path):
    calibration = {"slope": 0.5, "intercept": 0.0, "evidence_threshold": 0.3}
    evidence = {"passage_weight": 0.3, "calibration": calibration}
    folder = folder_with(tmp_path, {"answering": VALUES, "evidence": evidence})
    found = StoredValues(folder).answering
    assert found is not None and found.to_dict() == VALUES
    read = StoredValues(folder).evidence
    assert read.passage_weight == 0.3
    assert read.calibration is not None and read.calibration.to_dict() == calibration


def test_nothing_stored_is_sentences_by_themselves_and_no_decision(tmp_path: Path):
    folder = folder_with(tmp_path, {})
    assert StoredValues(folder).answering is None
    assert StoredValues(folder).evidence == EvidenceModel()


@pytest.mark.parametrize("content", IMPOSSIBLE, ids=str)
def test_what_is_impossible_is_refused_by_the_name_of_the_file(content: object, tmp_path: Path):
    stored = StoredValues(folder_with(tmp_path, content))
    with pytest.raises(ModelError, match=r"biorerank\.json is damaged"):
        _ = stored.answering if "answering" in str(content) else stored.evidence
