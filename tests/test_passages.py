"""The vocabulary: checked, frozen, and plain JSON on the way out."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from biorerank_plugins import Candidate, Evidence, Passage, RankedPassage, Ranking
from biorerank_plugins.passages import as_candidates


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ((1, "text"), TypeError, "Passage.id must be a string, got int: 1"),
        (("1", None), TypeError, "Passage.text must be a string, got NoneType"),
        (("", "text"), ValueError, "Passage.id must not be empty"),
        (("1", "text", 3), TypeError, "Passage.title must be a string or None, got int"),
        (("1", "text", None, [1]), TypeError, "Passage.metadata must be a mapping, got list"),
    ],
)
def test_a_wrong_passage_is_refused(arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        Passage(*arguments)


def test_metadata_is_a_deep_read_only_copy():
    given = {"year": 2013, "mesh": ["a", {"b": [1]}], 7: None}
    passage = Passage("1", "text", metadata=given)
    given["year"], given["mesh"][1]["b"] = 0, "changed"
    assert passage.to_dict()["metadata"] == {"year": 2013, "mesh": ["a", {"b": [1]}], "7": None}
    with pytest.raises(TypeError):
        passage.metadata["year"] = 1
    with pytest.raises(FrozenInstanceError):
        passage.text = "other"


def test_passages_and_rankings_can_be_compared_hashed_copied_and_pickled():
    passage = Passage("1", "text", "title", {"a": {"b": [1, 2]}})
    ranking = Ranking("q", (RankedPassage(passage, 0, 1, 0.5, 0.6, 0.6),), timings={"rerank": 0.1})
    assert len({passage, Passage("1", "text", "title", {"a": {"b": [1, 2]}})}) == 1
    assert replace(passage, text="other").metadata == passage.metadata
    for copied in (copy.deepcopy, copy.copy, lambda value: pickle.loads(pickle.dumps(value))):
        assert copied(passage) == passage
        assert copied(ranking).to_dict() == ranking.to_dict()
        assert list(copied(ranking)) == list(ranking)


def test_numbers_of_numpy_in_metadata_become_json():
    passage = Passage("1", "text", metadata={"year": np.int64(2013), "v": np.array([1.5, 2.0]), "ok": np.bool_(True)})
    assert json.loads(json.dumps(passage.to_dict()["metadata"])) == {"year": 2013, "v": [1.5, 2.0], "ok": True}


def test_a_ranking_is_a_sequence_and_plain_json():
    evidence = Evidence("te", 0, 2, 0.1, 0.2)
    line = RankedPassage(Passage("1", "text"), 3, 1, 0.5, 0.6, 0.7, retrieval_score=0.2, evidence=(evidence,))
    ranking = Ranking("q", (line,), dropped=(Passage("2", "x"),), below_threshold=4, timings={"rerank": 0.1})
    assert (len(ranking), ranking[0], ranking[-1], ranking[:1], list(ranking)) == (1, line, line, (line,), [line])
    assert line in ranking
    assert ranking.index(line) == 0
    assert json.loads(json.dumps(ranking.to_dict())) == {
        "query": "q",
        "passages": [
            {
                "rank": 1,
                "id": "1",
                "text": "text",
                "title": None,
                "metadata": {},
                "input_index": 3,
                "logit": 0.5,
                "score": 0.6,
                "probability": 0.7,
                "retrieval_score": 0.2,
                "evidence": [{"text": "te", "start": 0, "end": 2, "score": 0.1, "probability": 0.2, "quotable": True}],
                "n_windows": 1,
                "truncated": False,
                "fused": None,
                "window": None,
                "boost": 0.0,
                "retracted": None,
            }
        ],
        "dropped": ["2"],
        "drop_reasons": ["duplicate"],
        "below_threshold": 4,
        "no_evidence": None,
        "answerability": None,
        "query_truncated": False,
        "timings": {"rerank": 0.1},
    }
    with pytest.raises(TypeError):
        ranking.timings["rerank"] = 0


def test_as_candidates_takes_strings_passages_candidates_and_generators():
    candidate = Candidate(Passage("c", "third"), 0.5, 1)
    found = as_candidates(item for item in ["first", Passage("b", "second"), candidate])
    assert [c.passage.id for c in found] == ["0", "b", "c"]
    assert found[2] is candidate


@pytest.mark.parametrize("items", ["one text", b"bytes", Passage("1", "x"), {"1": "text"}, None, 5])
def test_what_is_no_list_of_passages_is_refused(items):
    with pytest.raises(TypeError, match="Expected a list of passages, got"):
        as_candidates(items)


def test_an_item_that_is_no_passage_is_refused_by_its_place():
    with pytest.raises(TypeError, match="Passage 1 must be a str, Passage or Candidate, got int: 7"):
        as_candidates(["a", 7])


@pytest.mark.parametrize(("passage", "score"), [("text", None), (Passage("1", "x"), "0.5"), (Passage("1", "x"), True)])
def test_a_wrong_candidate_is_refused(passage, score):
    with pytest.raises(TypeError, match=r"Candidate\.(passage|score) must be"):
        Candidate(passage, score)
