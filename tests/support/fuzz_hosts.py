"""Fuzz targets that run whole: the server's application in this process, and hosts' objects with hostile metadata."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

from support.scorers import zero
from support.spoil import Target, as_json, spoil_bytes, spoil_tree

_BODIES = {
    "/rerank": {"query": "What is p53?", "texts": ["a", "b"], "raw_scores": True, "truncate": True},
    "/v1/rerank": {"query": "q", "documents": ["a", {"text": "b", "n": 1}], "top_n": 1, "rank_fields": ["text", "n"]},
    "/v2/rerank": {"model": "m", "query": "q", "documents": ["a", "b"], "top_n": 2, "max_tokens_per_doc": 9},
    "/score": {"model": "m", "text_1": "What is p53?", "text_2": ["a", "b"]},
    "/search": {"query": "What is p53?", "top_k": 3, "filters": {"year": {">=": 2015}}},
}
_METADATA: dict[str, Any] = {
    "pmid": 12, "doi": "10.1/x", "url": "https://pubmed.ncbi.nlm.nih.gov/1/", "title": "T", "authors": ["A B"],
    "journal": "J", "year": "2001 May", "publication_types": ["Review"], "retracted": "yes", "retrieval_score": 0.5,
    "ids": {"pmid": "3"},
}  # fmt: skip


def host_targets() -> dict[str, Target]:
    """Return a target for the server's application, and one for the metadata of each host."""
    sent = tuple((path, json.dumps(body).encode()) for path, body in _BODIES.items())
    found = {"application of the server": Target(_application(), (), sent, _spoil_body)}
    for host, run in (("haystack", _haystack()), ("langchain", _langchain()), ("llama_index", _llama_index())):
        # LlamaIndex's nodes write their metadata into the text that is read.
        refused = (ValueError,) if host == "llama_index" else ()
        found[f"metadata of {host}"] = Target(run, refused, (_METADATA,), _spoil_metadata)
    return found


def _spoil_body(good: tuple[str, bytes], chance: random.Random) -> tuple[str, bytes]:
    path, body = good
    by_bytes = chance.random() < 0.4
    return path, spoil_bytes(body, chance) if by_bytes else as_json(spoil_tree(json.loads(body), chance))


def _spoil_metadata(good: Any, chance: random.Random) -> dict[str, Any]:
    bad = spoil_tree(good, chance)
    return bad if isinstance(bad, dict) else {"pmid": bad}


def _application() -> Any:
    """Post to an application that runs; what is refused is refused with 4xx, in JSON."""
    import httpx

    from biorerank_plugins import BioReranker
    from biorerank_plugins.serve import Engine, create_app

    engine = Engine(BioReranker(zero()))
    engine.start()
    transport = httpx.ASGITransport(create_app(engine))

    async def post(path: str, body: bytes) -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://fuzz") as client:
            return await client.post(path, content=body, headers={"content-type": "application/json"})

    def run(given: tuple[str, bytes]) -> None:
        path, body = given
        answer = asyncio.run(post(path, body))
        if answer.status_code not in (200, 400, 404, 413, 422):
            raise AssertionError(f"status {answer.status_code} from {path}: {answer.text:.200}")
        json.dumps(answer.json(), allow_nan=False)

    return run


def _haystack() -> Any:
    from haystack import Document

    from biorerank_plugins.haystack import BioRanker

    ranker = BioRanker(model=zero(), deduplicate=["pmid", "doi"], retracted="flag")

    def run(metadata: dict[str, Any]) -> None:
        assert len(ranker.run(query="q", documents=[Document(id="1", content="a", meta=metadata)])["documents"]) == 1

    return run


def _langchain() -> Any:
    from langchain_core.documents import Document

    from biorerank_plugins.langchain import BioRerankCompressor

    compressor = BioRerankCompressor(model=zero(), deduplicate=("pmid", "doi"), retracted="flag")

    def run(metadata: dict[str, Any]) -> None:
        given = Document.model_construct(page_content="a", metadata=metadata, id=None)
        assert len(compressor.compress_documents([given], "q")) == 1

    return run


def _llama_index() -> Any:
    from llama_index.core.schema import NodeWithScore, TextNode

    from biorerank_plugins.llama_index import BioRerankPostprocessor

    reranker = BioRerankPostprocessor(model=zero(), deduplicate=("pmid", "doi"), retracted="flag")

    def run(metadata: dict[str, Any]) -> None:
        node = NodeWithScore(node=TextNode.model_construct(id_="1", text="a", metadata=metadata), score=0.5)
        assert len(reranker.postprocess_nodes([node], query_str="q")) == 1

    return run
