"""BioTextEmbedder and BioDocumentEmbedder: the vectors of BiEncoder, and of the host's own embedders."""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from haystack import Document
from haystack.utils import ComponentDevice, Secret
from support.haystack import QUERY, documents

from biorerank_plugins import BiEncoder, Passage
from biorerank_plugins.haystack import BioDocumentEmbedder, BioTextEmbedder

CPU = ComponentDevice.from_str("cpu")
PAIRS = [
    ("SentenceTransformersTextEmbedder", BioTextEmbedder),
    ("SentenceTransformersDocumentEmbedder", BioDocumentEmbedder),
]


def hosts(name: str):
    """A class of the host; loaded by the tests that need it, for that takes seconds."""
    from haystack_integrations.components.embedders import sentence_transformers

    return getattr(sentence_transformers, name)


def ours(kind, folder: Path, **options):
    return kind(model=folder, device=CPU, dtype="float32", **options)


def vectors(result) -> np.ndarray:
    return np.array([document.embedding for document in result["documents"]])


def test_vectors_are_the_bi_encoders(tiny_encoder_dir):
    encoder = BiEncoder(tiny_encoder_dir, device="cpu", dtype="float32")
    embedding = ours(BioTextEmbedder, tiny_encoder_dir).run(QUERY)["embedding"]
    assert embedding == encoder.encode_queries([QUERY])[0].tolist()
    found = vectors(ours(BioDocumentEmbedder, tiny_encoder_dir).run(documents()))
    assert np.array_equal(found, encoder.encode_passages([Passage(one.id, one.content) for one in documents()]))


def test_vectors_are_those_of_the_hosts_embedders(tiny_encoder_dir):
    for options in ({}, {"prefix": "what is ", "suffix": " gene"}, {"normalize_embeddings": True}):
        theirs = hosts("SentenceTransformersTextEmbedder")(
            model=str(tiny_encoder_dir), device=CPU, progress_bar=False, **options
        ).run(QUERY)
        mine = ours(BioTextEmbedder, tiny_encoder_dir, **options).run(QUERY)
        assert mine.keys() == theirs.keys()
        assert mine["embedding"] == pytest.approx(theirs["embedding"], abs=1e-5)
        fields = {**options, "meta_fields_to_embed": ["year", "none"], "embedding_separator": " | "}
        for more in (options, fields):
            theirs = hosts("SentenceTransformersDocumentEmbedder")(
                model=str(tiny_encoder_dir), device=CPU, progress_bar=False, **more
            ).run(documents())
            mine = ours(BioDocumentEmbedder, tiny_encoder_dir, **more).run(documents())
            assert [one.id for one in mine["documents"]] == [one.id for one in theirs["documents"]]
            assert vectors(mine) == pytest.approx(vectors(theirs), abs=1e-5)


def test_the_embedded_model_reads_the_title(no_network):
    [document] = BioDocumentEmbedder(device=CPU, dtype="float32").run(
        [Document(content="It suppresses tumours.", meta={"title": "TP53"})]
    )["documents"]
    encoder = BiEncoder(device="cpu", dtype="float32")
    [expected] = encoder.encode_passages([Passage("1", "It suppresses tumours.", "TP53")])
    assert document.embedding == expected.tolist()


def test_a_title_on_request(tiny_encoder_dir):
    encoder = BiEncoder(tiny_encoder_dir, device="cpu", dtype="float32")
    given = [Document(content="suppresses tumours", meta={"title": "p53"})]
    [expected] = encoder.encode_passages([Passage("1", "suppresses tumours", "p53")])
    assert vectors(ours(BioDocumentEmbedder, tiny_encoder_dir, title="join").run(given))[0] == pytest.approx(expected)
    assert vectors(ours(BioDocumentEmbedder, tiny_encoder_dir).run(given))[0] != pytest.approx(expected, abs=1e-3)


def test_new_documents_come_back_and_the_given_ones_stay_as_they_are(tiny_encoder_dir):
    given = [*documents(), Document(content=None)]
    before = copy.deepcopy(given)
    embedder = ours(BioDocumentEmbedder, tiny_encoder_dir)
    found = embedder.run(given)["documents"]
    assert given == before
    assert [(one.id, one.content, one.meta, one.score) for one in found] == [
        (one.id, one.content, one.meta, one.score) for one in given
    ]
    assert all(one.meta["tags"] is not source.meta["tags"] for one, source in zip(found[:-1], given, strict=False))
    json.dumps([one.to_dict() for one in found], allow_nan=False)
    assert embedder.run([]) == {"documents": []}
    assert asyncio.run(embedder.run_async(given)) == {"documents": found}


def test_async_text(tiny_encoder_dir):
    embedder = ours(BioTextEmbedder, tiny_encoder_dir)
    assert asyncio.run(embedder.run_async(QUERY)) == embedder.run(QUERY)


def test_life(tiny_encoder_dir):
    embedder = ours(BioTextEmbedder, tiny_encoder_dir)
    expected = embedder.run(QUERY)
    embedder.warm_up()
    embedder.close()
    embedder.close()
    assert embedder.run(QUERY) == expected


@pytest.mark.parametrize("given", [None, 5, ["text"], [Document(content="x")]])
def test_a_text_must_be_a_string(given):
    with pytest.raises(TypeError, match="BioTextEmbedder takes a string"):
        BioTextEmbedder(model="no/such").run(given)


@pytest.mark.parametrize("given", [None, "text", ["text"], Document(content="x"), [Document(content="x"), 1]])
def test_documents_must_be_documents(given):
    with pytest.raises(TypeError, match="Document"):
        BioDocumentEmbedder(model="no/such").run(given)


@pytest.mark.parametrize(("host", "kind"), PAIRS)
def test_every_argument_of_the_hosts_is_accepted(host, kind):
    theirs = inspect.signature(hosts(host).__init__).parameters
    mine = inspect.signature(kind.__init__).parameters
    assert theirs.keys() <= mine.keys()
    # The model is ours; a prefix that is not given is the prompt that the model stores.
    different = {name for name in theirs if theirs[name].default != mine[name].default}
    assert different == {"model", "prefix"}
    defaults = {name: one.default for name, one in theirs.items() if name != "self"}
    assert kind(**defaults).to_dict()["init_parameters"]["batch_size"] == 32


@pytest.mark.parametrize(("host", "kind"), PAIRS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trust_remote_code": True}, "trust_remote_code=True is not supported"),
        ({"truncate_dim": 8}, "truncate_dim=8 is not supported"),
        ({"precision": "int8"}, "precision='int8' is not supported"),
        ({"quantization_ranges": [[0.0], [1.0]]}, "quantization_ranges=.* is not supported"),
        ({"encode_kwargs": {"prompt": "x"}}, "encode_kwargs=.* is not supported"),
        ({"config_kwargs": {"a": 1}}, "config_kwargs: 'a'"),
        ({"model_kwargs": {"device_map": "auto"}}, "model_kwargs: 'device_map'"),
        ({"tokenizer_kwargs": {"use_fast": False}}, "tokenizer_kwargs: 'use_fast'"),
        ({"backend": "onnx-gpu"}, "backend='onnx-gpu'"),
        ({"batch_size": 0}, "batch_size .* got 0"),
    ],
)
def test_what_is_refused_is_refused_at_once(host, kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)


@pytest.mark.parametrize("kind", [BioTextEmbedder, BioDocumentEmbedder])
def test_settings_survive_saving(kind, tiny_encoder_dir):
    embedder = kind(
        model=tiny_encoder_dir,
        device=ComponentDevice.from_str("cpu"),
        token=Secret.from_env_var("SOME_TOKEN", strict=False),
        prefix="",
        suffix="!",
        model_kwargs={"torch_dtype": torch.float32},
        tokenizer_kwargs={"model_max_length": 32},
        local_files_only=True,
        revision="main",
        max_length=64,
    )
    saved = embedder.to_dict()
    assert json.loads(json.dumps(saved)) == saved
    assert saved["init_parameters"]["model_kwargs"] == {"torch_dtype": "torch.float32"}
    again = kind.from_dict(saved)
    assert again.to_dict() == saved and again.device == embedder.device
    argument = QUERY if kind is BioTextEmbedder else documents()
    assert again.run(argument) == embedder.run(argument)


def test_impossible_texts_are_refused():
    with pytest.raises(ValueError, match="not both"):
        BioDocumentEmbedder(title="join", meta_fields_to_embed=["year"])
    with pytest.raises(ValueError, match="must not read a retrieval score"):
        BioDocumentEmbedder(meta_fields_to_embed=["biorerank_retrieval_score"])
