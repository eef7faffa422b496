"""Metadata of a host's objects: copied where it can be, the same object where it cannot, never a reason to fail."""

from __future__ import annotations

import copy
import threading
from typing import Any

import haystack
import pytest
from langchain_core.documents import Document as LangChainDocument
from llama_index.core.schema import NodeWithScore, TextNode
from support.scorers import by_number

from biorerank_plugins import Passage
from biorerank_plugins.adapters_common import copied_metadata
from biorerank_plugins.haystack import BioRanker
from biorerank_plugins.langchain import BioRerankCompressor
from biorerank_plugins.llama_index import BioRerankPostprocessor

QUERY = "q"


class Uncopyable:
    def __deepcopy__(self, memo: Any) -> Any:
        raise RuntimeError("a connection cannot be copied")


def awkward() -> dict[str, Any]:
    itself: dict[str, Any] = {"name": "n"}
    itself["again"] = itself
    ring: list[Any] = [1]
    ring.append(ring)
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    return {
        "lock": threading.Lock(),
        "client": Uncopyable(),
        "inside": {"file": [Uncopyable()], "tags": ["a"]},
        "itself": itself,
        "ring": ring,
        "deep": deep,
        "generator": (n for n in range(3)),
        "plain": ["b"],
    }


def by_haystack(metadata: dict[str, Any]) -> dict[str, Any]:
    given = haystack.Document(id="1", content="1 x", meta=metadata)
    [found] = BioRanker(model=by_number()).run(query=QUERY, documents=[given])["documents"]
    return dict(found.meta)


def by_langchain(metadata: dict[str, Any]) -> dict[str, Any]:
    given = LangChainDocument.model_construct(page_content="1 x", metadata=metadata, id=None)
    [found] = BioRerankCompressor(model=by_number()).compress_documents([given], QUERY)
    return dict(found.metadata)


def by_llama_index(metadata: dict[str, Any]) -> dict[str, Any]:
    node = TextNode(text="1 x", excluded_embed_metadata_keys=list(metadata))
    node.metadata = metadata
    [found] = BioRerankPostprocessor(by_number()).postprocess_nodes([NodeWithScore(node=node)], query_str=QUERY)
    return dict(found.node.metadata)


@pytest.mark.parametrize("rank", [by_haystack, by_langchain, by_llama_index])
def test_what_cannot_be_copied_is_kept_and_breaks_nothing(rank):
    given = awkward()
    found = rank(given)
    assert found["lock"] is given["lock"]
    assert found["client"] is given["client"]
    assert found["inside"]["tags"] == ["a"]
    assert found["itself"]["again"]["name"] == "n"
    assert found["plain"] == ["b"]
    assert given.keys() == awkward().keys()


def test_metadata_that_llama_index_cannot_write_out_are_named():
    node = TextNode(id_="n7", text="1 x")
    node.metadata = {"deep": awkward()["deep"]}
    with pytest.raises(ValueError, match="node 'n7' nest too deeply to be read as text"):
        BioRerankPostprocessor(by_number()).postprocess_nodes([NodeWithScore(node=node)], query_str=QUERY)


def test_what_can_be_copied_is_a_copy():
    given = awkward()
    made = copied_metadata(given)
    made["plain"].append("c")
    made["inside"]["tags"].append("c")
    assert (given["plain"], given["inside"]["tags"]) == (["b"], ["a"])
    assert made["inside"]["file"][0] is given["inside"]["file"][0]
    assert made["itself"]["again"] is made["itself"] is not given["itself"]
    plain = {"a": [1, {"b": (2,)}]}
    assert copied_metadata(plain) == copy.deepcopy(plain)


def test_a_passage_takes_metadata_that_hold_themselves_and_stays_json():
    passage = Passage("1", "text", metadata={key: awkward()[key] for key in ("itself", "ring", "deep", "plain")})
    told = passage.to_dict()["metadata"]
    assert (told["plain"], told["itself"]["name"], told["ring"][0]) == (["b"], "n", 1)
