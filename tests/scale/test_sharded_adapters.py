"""Each host's retriever takes a sharded index, as an object or as a folder, where it takes an index."""

from __future__ import annotations

from pathlib import Path

import pytest

from biorerank_plugins import Passage, PassageIndex
from biorerank_plugins.first_stage import BiEncoder
from biorerank_plugins.scale import ShardedIndex

WORDS = ["p53", "aspirin", "metformin", "insulin", "brca1", "heart", "liver", "kidney"]
PASSAGES = [Passage(str(n), f"{word} in disease {n}") for n, word in enumerate(WORDS * 3)]
QUERY = "what does aspirin do in disease?"


@pytest.fixture(scope="module")
def folder(tiny_encoder_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharded") / "index"
    encoder = BiEncoder(tiny_encoder_dir, dtype="float32")
    ShardedIndex.build(PASSAGES, folder, shards=2, encoder=encoder).close()
    return folder


@pytest.fixture(scope="module")
def expected(tiny_encoder_dir: Path) -> list[str]:
    with PassageIndex.build(PASSAGES, encoder=BiEncoder(tiny_encoder_dir, dtype="float32")) as index:
        return [one.passage.text for one in index.search(QUERY, 5)]


def test_llama_index(folder, expected):
    pytest.importorskip("llama_index.core")
    from biorerank_plugins.llama_index import BioRetriever

    nodes = BioRetriever(str(folder), similarity_top_k=5).retrieve(QUERY)
    assert len(nodes) == 5
    with ShardedIndex.load(folder) as index:
        assert [one.node.get_content() for one in BioRetriever(index, similarity_top_k=5).retrieve(QUERY)] == [
            one.node.get_content() for one in nodes
        ]
    assert {one.node.get_content() for one in nodes} == set(expected)


def test_langchain(folder, expected):
    pytest.importorskip("langchain_core")
    from biorerank_plugins.langchain import BioRetriever

    found = BioRetriever(index=str(folder), k=5).invoke(QUERY)
    with ShardedIndex.load(folder) as index:
        assert BioRetriever(index=index, k=5).invoke(QUERY) == found
    assert {one.page_content for one in found} == set(expected)


def test_haystack(folder, expected):
    pytest.importorskip("haystack")
    from biorerank_plugins.haystack import BioRetriever

    found = BioRetriever(index=str(folder), top_k=5).run(QUERY)["documents"]
    with ShardedIndex.load(folder) as index:
        retriever = BioRetriever(index=index, top_k=5)
        assert [one.content for one in retriever.run(QUERY)["documents"]] == [one.content for one in found]
        assert retriever.to_dict()["init_parameters"]["index"] == str(folder)
    assert {one.content for one in found} == set(expected)
