"""Indexes, two-stage searches and retrievers: pickled and copied by their folder; in other processes: see
``tests/reliability/test_host_processes.py``."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from biorerank_plugins import BiEncoder, BioReranker, PassageIndex, TwoStageSearch
from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage import Hybrid
from biorerank_plugins.scale import ShardedIndex

TEXTS = ["aspirin inhibits platelets", "insulin lowers glucose", "the heart", "cells divide", "tumour growth"]
QUERY = "which drug inhibits platelets"
WAYS: list[Callable[[Any], Any]] = [lambda one: pickle.loads(pickle.dumps(one)), copy.copy, copy.deepcopy]


@pytest.fixture(scope="module")
def encoder(tiny_encoder_dir: Path) -> BiEncoder:
    return BiEncoder(tiny_encoder_dir, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def folder(encoder: BiEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("index") / "saved"
    PassageIndex.build(TEXTS, encoder=encoder).save(where)
    return where


def found(index: Any) -> list[tuple[str, float | None]]:
    return [(one.passage.id, one.score) for one in index.search(QUERY, 3)]


@pytest.mark.parametrize("way", WAYS, ids=["pickle", "copy", "deepcopy"])
def test_a_copy_of_a_saved_index_finds_the_same(folder: Path, encoder: BiEncoder, way: Callable[[Any], Any]):
    index = PassageIndex.load(folder, encoder=encoder)
    index.hybrid = Hybrid("weighted", lexical_weight=0.3)
    made = way(index)
    assert found(made) == found(index)
    assert (made.folder, made.hybrid, len(made)) == (index.folder, index.hybrid, len(TEXTS))
    index.close()
    assert found(made), "it lives on its own"


@pytest.mark.parametrize("way", WAYS, ids=["pickle", "copy", "deepcopy"])
def test_an_index_in_memory_says_to_save_it(encoder: BiEncoder, way: Callable[[Any], Any]):
    with pytest.raises(PassageIndexError, match=r"save it first \(index.save\(folder\)\)"):
        way(PassageIndex.build(TEXTS, encoder=encoder))


@pytest.mark.parametrize("way", WAYS, ids=["pickle", "copy", "deepcopy"])
def test_a_copy_of_a_sharded_index(encoder: BiEncoder, tmp_path: Path, way: Callable[[Any], Any]):
    ShardedIndex.build(TEXTS, tmp_path / "shards", shards=2, encoder=encoder)
    index = ShardedIndex.load(tmp_path / "shards", encoder=encoder, on_lost="partial", timeout=5.0)
    made = way(index)
    assert found(made) == found(index)
    assert (made._side_by_side.on_lost, made._side_by_side.timeout) == ("partial", 5.0)


@pytest.mark.parametrize("way", WAYS, ids=["pickle", "copy", "deepcopy"])
def test_a_copy_of_two_stages(
    folder: Path, encoder: BiEncoder, tiny_cross_encoder_dir: Path, way: Callable[[Any], Any]
):
    reranker = BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32")
    search = TwoStageSearch(PassageIndex.load(folder, encoder=encoder), reranker, first_stage="lexical")
    made = way(search)
    assert made.first_stage == "lexical"
    expected = {one.passage.id: one.logit for one in search.search(QUERY)}
    assert {one.passage.id: one.logit for one in made.search(QUERY)} == pytest.approx(expected)


def test_the_retrievers_of_all_hosts(folder: Path, encoder: BiEncoder):
    from biorerank_plugins import haystack, langchain, llama_index

    index = PassageIndex.load(folder, encoder=encoder)
    made = pickle.loads(pickle.dumps(llama_index.BioRetriever(index, similarity_top_k=2)))
    assert [one.node.node_id for one in made.retrieve(QUERY)] == [id_ for id_, _ in found(index)[:2]]
    for way in WAYS:
        retriever = way(langchain.BioRetriever(index=index, k=2))
        assert [one.id for one in retriever.invoke(QUERY)] == [id_ for id_, _ in found(index)[:2]]
        component = way(haystack.BioRetriever(index=index, top_k=2))
        assert [one.id for one in component.run(query=QUERY)["documents"]] == [id_ for id_, _ in found(index)[:2]]
