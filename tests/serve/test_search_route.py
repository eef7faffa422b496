"""Search over HTTP gives what both stages give."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.serve import PASSAGES, QUERY, Quick, Running, started

from biorerank_plugins import BioReranker, PassageIndex, TwoStageSearch


@pytest.fixture
def search(index_dir: Path, oracle: BioReranker):
    with PassageIndex.load(index_dir) as index:
        yield TwoStageSearch(index, oracle)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top_k": 2, "candidates": 3},
        {"filters": {"year": {">=": 2015}}},
        {"evidence": 2, "top_k": 1, "effort": "auto"},
        {"min_probability": 0.5, "retracted": "flag", "deduplicate": "text", "fusion": None},
    ],
)
def test_both_stages_answer(server: Running, search: TwoStageSearch, options: dict):
    answer = server.client.post("/search", json={"query": QUERY, **options})
    assert answer.status_code == 200, answer.text
    expected = search.search(QUERY, **{"top_k": 10, "candidates": 100, **options}).to_dict()
    found = answer.json()
    assert set(found.pop("timings")) >= {"rerank"}
    expected.pop("timings")
    assert found == expected


def test_the_first_stage_can_be_chosen(server: Running, index_dir: Path, oracle: BioReranker):
    with PassageIndex.load(index_dir) as index:
        for stage in ("dense", "lexical", "hybrid"):
            found = server.client.post("/search", json={"query": QUERY, "first_stage": stage, "fusion": None}).json()
            expected = TwoStageSearch(index, oracle, first_stage=stage).search(QUERY, fusion=None)
            assert [one["id"] for one in found["passages"]] == [one.passage.id for one in expected]
            assert [one["retrieval_score"] for one in found["passages"]] == [one.retrieval_score for one in expected]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"filters": {"year": {"~~": 3}}}, "filters"),
        ({"filters": ["year"]}, "filters"),
        ({"top_k": 0}, "top_k"),
        ({"min_probability": 2}, "min_probability"),
        ({"first_stage": "sparse"}, "first_stage"),
        ({"tok_k": 3}, "tok_k"),
        ({"query": " \n"}, "the query is empty"),
        ({"evidence": -1}, "evidence"),
        ({"fusion": "second-reader"}, "fusion"),
        ({"effort": "some"}, "effort"),
    ],
)
def test_a_malformed_search_is_refused_by_name(server: Running, options: dict, said: str):
    answer = server.client.post("/search", json={"query": QUERY, **options})
    assert answer.status_code == 422
    assert said in answer.json()["message"]


def test_too_many_candidates_are_too_much(server: Running):
    answer = server.client.post("/search", json={"query": QUERY, "candidates": 1_001})
    assert (answer.status_code, answer.json()["error_type"]) == (413, "too_large")


def test_without_an_index_there_is_no_search():
    with started(BioReranker(Quick())) as running:
        answer = running.client.post("/search", json={"query": QUERY})
        assert answer.status_code == 404
        assert "--index" in answer.json()["message"]
        assert running.client.get("/info").json()["search"] is False


def test_an_index_without_a_lexical_part_refuses_to_be_searched_by_words(tiny_encoder_dir: Path):
    from biorerank_plugins import BiEncoder

    index = PassageIndex.build(PASSAGES, encoder=BiEncoder(tiny_encoder_dir, device="cpu"), lexical=False)
    with started(BioReranker(Quick()), open_index=lambda: index) as running:
        answer = running.client.post("/search", json={"query": QUERY, "first_stage": "lexical"})
        assert answer.status_code == 422
        assert "lexical" in answer.json()["message"]
        assert len(running.client.post("/search", json={"query": QUERY}).json()["passages"]) == len(PASSAGES)


def test_what_a_partial_index_lacks_is_named(tiny_encoder_dir: Path, tmp_path: Path):
    from biorerank_plugins import BiEncoder
    from biorerank_plugins.scale import ShardedIndex

    encoder = BiEncoder(tiny_encoder_dir, device="cpu")
    ShardedIndex.build(PASSAGES, tmp_path / "shards", shards=2, encoder=encoder).close()
    whole = ShardedIndex.load(tmp_path / "shards", encoder=encoder)
    with started(BioReranker(Quick()), open_index=lambda: whole) as running:
        answer = running.client.post("/search", json={"query": QUERY}).json()
        assert {one["id"] for one in answer["passages"]} == {one.id for one in PASSAGES}
        assert "missing_shards" not in answer
    shutil.rmtree(tmp_path / "shards" / "shard-0001")
    partial = ShardedIndex.load(tmp_path / "shards", encoder=encoder, on_lost="partial")
    with started(BioReranker(Quick()), open_index=lambda: partial) as running:
        answer = running.client.post("/search", json={"query": QUERY}).json()
        assert answer["missing_shards"] == ["shard-0001"]
        assert 0 < len(answer["passages"]) < len(PASSAGES)
