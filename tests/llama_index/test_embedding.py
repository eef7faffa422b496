"""The embedding model against the bi-encoder it wraps, and in LlamaIndex's vector stores."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import shutil
import time
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.schema import MetadataMode, TextNode
from llama_index.vector_stores.faiss import FaissVectorStore

from biorerank_plugins import BiEncoder, Passage
from biorerank_plugins.errors import ModelError
from biorerank_plugins.llama_index import BioEmbedding

QUERY = "is p53 a tumour suppressor"
TEXTS = ["aspirin inhibits platelets", "p53 suppresses tumours", "", "insulin lowers glucose", "p53 gene"]


@pytest.fixture(scope="module")
def embedding(tiny_encoder_dir: Path) -> BioEmbedding:
    return BioEmbedding(tiny_encoder_dir, device="cpu", dtype="float32", query_prefix="what is ", passage_prefix="the ")


@pytest.fixture(scope="module")
def encoder(tiny_encoder_dir: Path) -> BiEncoder:
    return BiEncoder(tiny_encoder_dir, device="cpu", dtype="float32", query_prefix="what is ", passage_prefix="the ")


def near(vectors) -> object:
    return pytest.approx(np.asarray(vectors), abs=1e-5)


def test_questions_and_passages_are_embedded_in_their_own_way(embedding, encoder):
    passages = encoder.encode_passages([Passage("0", text) for text in TEXTS])
    query = encoder.encode_queries([QUERY])[0]
    assert isinstance(embedding, BaseEmbedding)
    assert embedding.get_query_embedding(QUERY) == near(query)
    assert embedding.get_text_embedding(TEXTS[1]) == near(passages[1])
    assert np.array(embedding.get_text_embedding_batch(TEXTS)) == near(passages)
    assert embedding.get_query_embedding(TEXTS[1]) != near(passages[1])
    assert embedding.get_agg_embedding_from_queries([QUERY, QUERY]) == near(query)


def test_async_gives_the_same(embedding):
    async def run():
        return (
            await embedding.aget_query_embedding(QUERY),
            await embedding.aget_text_embedding(TEXTS[1]),
            await embedding.aget_text_embedding_batch(TEXTS * 40),
        )

    query, text, batch = asyncio.run(run())
    assert query == near(embedding.get_query_embedding(QUERY))
    assert text == near(embedding.get_text_embedding(TEXTS[1]))
    assert np.array(batch) == near(embedding.get_text_embedding_batch(TEXTS * 40))


def test_vectors_are_lists_of_plain_floats(embedding):
    vector = embedding.get_query_embedding(QUERY)
    assert {type(value) for value in vector} == {float}
    json.dumps(embedding.get_text_embedding_batch(TEXTS), allow_nan=False)
    assert embedding.get_text_embedding_batch([]) == []


def test_batches_are_embedded_together(tiny_encoder_dir, recorder):
    embedding = BioEmbedding(tiny_encoder_dir, device="cpu", embed_batch_size=3)
    embedding.get_text_embedding_batch(["a", "b", "c", "d", "e"])
    ends = [event for event in recorder.seen if event.class_name() == "EmbeddingEndEvent"]
    assert [event.chunks for event in ends] == [["a", "b", "c"], ["d", "e"]]


def test_the_event_loop_goes_on_while_it_embeds(embedding):
    embedding.warm_up()
    texts = ["p53 suppresses tumours " * 30] * 600

    async def longest_pause() -> tuple[float, float]:
        start = time.perf_counter()
        task = asyncio.create_task(embedding.aget_text_embedding_batch(texts))
        longest, last = 0.0, start
        while not task.done():
            await asyncio.sleep(0.005)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
        await task
        return longest, time.perf_counter() - start

    longest, whole = asyncio.run(longest_pause())
    assert longest < whole / 2


def test_settings_survive_saving(tiny_encoder_dir):
    embedding = BioEmbedding(
        model_name=tiny_encoder_dir,
        embed_batch_size=7,
        query_model=tiny_encoder_dir,
        device=torch.device("cpu"),
        dtype=torch.float32,
        pooling="cls",
        normalize=False,
        query_prefix="q ",
        passage_prefix="p ",
        max_length=32,
        query_max_length=16,
        revision="main",
        token="secret",
        cache_folder=tiny_encoder_dir,
        local_files_only=True,
    )
    query, saved = embedding.get_query_embedding(QUERY), embedding.to_dict()
    assert json.loads(json.dumps(saved)) == saved
    assert saved["model_name"] == str(tiny_encoder_dir)
    own = set(BioEmbedding.model_fields) - set(BaseEmbedding.model_fields) - {"token"}
    assert not [name for name in own if saved[name] == BioEmbedding.model_fields[name].default]
    assert "secret" not in str(saved) + repr(embedding) + repr(pickle.dumps(embedding))
    for again in (
        BioEmbedding.from_dict(saved),
        BioEmbedding.from_json(embedding.to_json()),
        pickle.loads(pickle.dumps(embedding)),
        copy.deepcopy(embedding),
    ):
        assert again.to_dict() == saved
        assert again.get_query_embedding(QUERY) == query


def test_the_model_is_loaded_when_it_is_needed(no_network, tiny_encoder_dir, tmp_path):
    BioEmbedding("owner/name")
    with pytest.raises(ModelError, match="no model 'nonsense'"):
        BioEmbedding("nonsense")
    shutil.copytree(tiny_encoder_dir, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    embedding = BioEmbedding(tmp_path / "model")
    with pytest.raises(ModelError):
        embedding.warm_up()
    assert BioEmbedding().model_name == "biorerank-encoder-minilm-l6"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "x"}, "model"),
        ({"embed_batch_size": 0}, "embed_batch_size"),
        ({"embed_batch_size": True}, "embed_batch_size"),
        ({"max_length": "5"}, "max_length"),
        ({"model_name": 5}, "model_name"),
    ],
)
def test_a_setting_that_makes_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        BioEmbedding(**settings)


def test_what_the_loaded_model_depends_on_cannot_be_changed(embedding):
    with pytest.raises(ValueError, match="frozen"):
        embedding.model_name = "biorerank-encoder-minilm-l6"


# In LlamaIndex


def nodes() -> list[TextNode]:
    return [TextNode(id_=f"n{i}", text=text, metadata={"pmid": str(i)}) for i, text in enumerate(TEXTS)]


def expected_scores(embedding: BioEmbedding) -> dict[str, float]:
    query = np.array(embedding.get_query_embedding(QUERY))
    texts = [node.get_content(MetadataMode.EMBED) for node in nodes()]
    return {f"n{i}": float(np.dot(embedding.get_text_embedding(text), query)) for i, text in enumerate(texts)}


@pytest.mark.parametrize("own_faiss", [False, True])
def test_in_a_vector_store_index(embedding, own_faiss, no_network):
    storage = None
    if own_faiss:
        store = FaissVectorStore(faiss_index=faiss.IndexFlatIP(32))
        storage = StorageContext.from_defaults(vector_store=store)
    index = VectorStoreIndex(nodes(), embed_model=embedding, storage_context=storage)
    found = index.as_retriever(similarity_top_k=5).retrieve(QUERY)
    scores = expected_scores(embedding)
    assert [one.node_id for one in found] == sorted(scores, key=lambda id_: -scores[id_])
    assert {one.node_id: float(one.score) for one in found} == pytest.approx(scores, abs=1e-5)


def test_in_an_ingestion_pipeline(embedding):
    embedded = IngestionPipeline(transformations=[embedding]).run(nodes=nodes())
    assert all(len(node.embedding) == 32 for node in embedded)
    again = asyncio.run(IngestionPipeline(transformations=[embedding]).arun(nodes=nodes()))
    assert np.array([node.embedding for node in again]) == near([node.embedding for node in embedded])
