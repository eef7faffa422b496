"""A second reader of candidates, where it is asked for, against a search by the same bi-encoder and arithmetic."""

from __future__ import annotations

import gc
import json
import math
import shutil
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from biorerank_plugins import BiEncoder, BioReranker, Candidate, Passage, PassageIndex, TwoStageSearch
from biorerank_plugins.errors import ModelError
from biorerank_plugins.testing import ScriptedScorer

QUERY = "which drug inhibits platelets"
TEXTS = ("aspirin inhibits platelets", "insulin lowers glucose", "cells divide", "the heart", "aspirin")
WEIGHT, REFERENCE, RANK_WEIGHT = 3.0, 0.4, 0.5


def passages() -> list[Passage]:
    return [Passage(text, text, title="the heart" if n % 2 else None) for n, text in enumerate(TEXTS)]


def stored(encoder: Path, **more: Any) -> dict[str, Any]:
    fusion = {"weight": WEIGHT, "reference": REFERENCE, "calibration": {"slope": 0.5, "intercept": -1.0}}
    return {"fusion": {str(encoder): fusion}, "second_reader": {"encoder": str(encoder), **more}}


def with_stored(model: Path, folder: Path, content: object, **options: Any) -> BioReranker:
    shutil.copytree(model, folder, dirs_exist_ok=True)
    (folder / "biorerank.json").write_text(json.dumps(content), encoding="utf-8")
    return BioReranker(folder, device="cpu", dtype="float32", **options)


@pytest.fixture
def reranker(tiny_cross_encoder_dir: Path, tiny_encoder_dir: Path, tmp_path: Path) -> BioReranker:
    return with_stored(tiny_cross_encoder_dir, tmp_path / "m", stored(tiny_encoder_dir, rank_weight=RANK_WEIGHT))


@pytest.fixture
def cosine(tiny_encoder_dir: Path) -> dict[str, float]:
    encoder = BiEncoder(tiny_encoder_dir, device="cpu", dtype="float32")
    [query] = encoder.encode_queries([QUERY])
    return {one.id: float(encoder.encode_passages([one])[0] @ query) for one in passages()}


def test_what_another_first_stage_scored_is_read_and_its_rank_counts(reranker: BioReranker, cosine: dict[str, float]):
    scores = [3.0, 17.0, 3.0, None, 5.0]  # ranks 3, 1, 3, 5 and 2
    given = [Candidate(one, score) for one, score in zip(passages(), scores, strict=True)]
    ranking = reranker.rank(QUERY, given, fusion="second-reader")
    ranks = dict(zip(TEXTS, [3, 1, 3, 5, 2], strict=True))
    for line in ranking:
        added = WEIGHT * (cosine[line.passage.id] - REFERENCE) - RANK_WEIGHT * math.log(ranks[line.passage.id])
        assert line.fused == pytest.approx(line.logit + added, abs=1e-5)
        assert line.probability == pytest.approx(1 / (1 + math.exp(1.0 - 0.5 * line.fused)), abs=1e-5)
    assert [line.fused for line in ranking] == sorted((line.fused for line in ranking), reverse=True)
    assert ranking.timings["second_reader"] > 0
    assert [line.logit for line in ranking] == [
        {one.passage.id: one.logit for one in reranker.rank(QUERY, passages(), fusion=None)}[line.passage.id]
        for line in ranking
    ]


def test_values_are_those_that_a_search_by_the_bi_encoder_gives(
    tiny_cross_encoder_dir: Path, tiny_encoder_dir: Path, tmp_path: Path
):
    encoder = BiEncoder(tiny_encoder_dir, device="cpu", dtype="float32")
    content = stored(tiny_encoder_dir)
    content["fusion"][encoder.model_id] = content["fusion"][str(tiny_encoder_dir)]
    reranker = with_stored(tiny_cross_encoder_dir, tmp_path / "m", content)
    with PassageIndex.build(passages(), encoder=encoder) as index:
        searched = TwoStageSearch(index, reranker, first_stage="dense").search(QUERY)
    ours = {line.passage.id: line.fused for line in searched}
    foreign = reranker.rank(QUERY, [Candidate(one, 1.0) for one in passages()], fusion="second-reader")
    assert {line.passage.id: line.fused for line in foreign} == pytest.approx(ours, abs=1e-5)
    assert "second_reader" not in searched.timings


def test_texts_without_scores_are_read_where_it_is_asked_for(reranker: BioReranker, cosine: dict[str, float]):
    for line in reranker.rank(QUERY, passages(), fusion="second-reader"):
        assert line.fused == pytest.approx(line.logit + WEIGHT * (cosine[line.passage.id] - REFERENCE), abs=1e-5)
    assert reranker.rank(QUERY, [], fusion="second-reader").passages == ()


def test_many_questions_are_answered_as_one_by_one(reranker: BioReranker):
    scored = [Candidate(one, float(n)) for n, one in enumerate(passages())]
    requests = [(QUERY, scored), ("the heart", passages()), ("the heart", scored[:2]), (QUERY, [])]
    together = reranker.rank_many(requests, fusion="second-reader")
    for (query, given), ranking in zip(requests, together, strict=True):
        alone = reranker.rank(query, given, fusion="second-reader")
        assert [line.passage for line in ranking] == [line.passage for line in alone]
        assert [line.order_value for line in ranking] == pytest.approx([line.order_value for line in alone], abs=1e-5)


@pytest.mark.parametrize("fusion", [None, 0.0, "order", "stored"])
def test_it_reads_nothing_unasked(reranker: BioReranker, fusion: Any):
    given = [Candidate(one, 1.0) for one in passages()]
    assert "second_reader" not in reranker.rank(QUERY, given, fusion=fusion).timings


def test_a_model_without_one_says_so(tiny_cross_encoder_dir: Path):
    for model in (tiny_cross_encoder_dir, ScriptedScorer(lambda *_: 0.0)):
        with pytest.raises(ValueError, match="stores no second reader"):
            BioReranker(model).rank(QUERY, ["aspirin"], fusion="second-reader")


@pytest.mark.parametrize(
    ("reader", "said"),
    [
        ({"encoder": "another"}, "'another', for which 'fusion' has no weight"),
        ({"encoder": 3}, "must be a name"),
        ({}, "must be a name"),
        ("another", "must be an object"),
        ({"encoder": "e", "rank_weight": -1}, "rank_weight"),
        ({"encoder": "e", "weight": 1}, "no 'weight'"),
    ],
)
def test_damaged_settings_are_named(tiny_cross_encoder_dir: Path, tmp_path: Path, reader: object, said: str):
    content = {"fusion": {"e": {"weight": 1, "reference": 0}}, "second_reader": reader}
    damaged = with_stored(tiny_cross_encoder_dir, tmp_path / "m", content)
    with pytest.raises(ModelError, match=said):
        damaged.warm_up()


@pytest.mark.parametrize("dtype", ["int8", torch.int8])
def test_beside_a_reranker_in_int8_it_reads_in_what_is_automatic(
    tiny_cross_encoder_dir: Path, tiny_encoder_dir: Path, tmp_path: Path, dtype: Any
):
    with_stored(tiny_cross_encoder_dir, tmp_path / "m", stored(tiny_encoder_dir))
    reranker = BioReranker(tmp_path / "m", device="cpu", dtype=dtype)
    assert "second_reader" in reranker.rank(QUERY, ["aspirin"], fusion="second-reader").timings


def test_a_bi_encoder_that_is_not_there_is_named(tiny_cross_encoder_dir: Path, tmp_path: Path):
    reranker = with_stored(tiny_cross_encoder_dir, tmp_path / "m", stored(tmp_path / "nowhere"))
    with pytest.raises(ModelError, match="nowhere"):
        reranker.rank(QUERY, ["aspirin"], fusion="second-reader")
    assert reranker.rank(QUERY, ["aspirin"])[0].fused is None


def test_rerankers_share_it_and_the_last_one_frees_it(
    tiny_cross_encoder_dir: Path, tiny_encoder_dir: Path, tmp_path: Path
):
    content = stored(tiny_encoder_dir)
    one, other = (with_stored(tiny_cross_encoder_dir, tmp_path / name, content) for name in "ab")
    for reranker in (one, other):
        reranker.rank(QUERY, ["aspirin"], fusion="second-reader")
    encoder = one._share.second_reader._encoder
    assert encoder is other._share.second_reader._encoder is not None
    seen = weakref.ref(encoder)
    del encoder
    one.close()
    assert seen() is not None
    other.close()
    gc.collect()
    assert seen() is None
