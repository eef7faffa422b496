"""The embedded models: names, identity, and that any loader computes with them in fp32."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from biorerank_plugins import BiEncoder, BioReranker, Passage, models
from biorerank_plugins.errors import ModelError


def test_every_name_has_a_folder_with_safe_weights_and_a_tokenizer():
    assert models.DEFAULT_ENCODER in models.names()
    assert models.names() == sorted(models.names())
    for name in models.names():
        folder = models.path(name)
        assert (folder / "model.safetensors").is_file()
        assert (folder / "tokenizer.json").is_file()
        assert not list(folder.rglob("*.bin"))
        assert json.loads((folder / "config.json").read_text())["dtype"] == "float32"


@pytest.mark.parametrize("name", ["nope", "", "../models", "biorerank-encoder-minilm-l6/1_Pooling"])
def test_an_unknown_name_lists_those_that_exist(name):
    with pytest.raises(ModelError, match=rf"There is no embedded model .*Embedded models: .*{models.DEFAULT_ENCODER}"):
        models.path(name)


def test_the_hash_follows_what_the_model_computes_and_nothing_else(tiny_encoder_dir: Path, tmp_path: Path):
    folder = Path(shutil.copytree(tiny_encoder_dir, tmp_path / "model"))
    first = models.content_hash(folder)
    assert first == models.content_hash(tiny_encoder_dir) == models.content_hash(str(folder))
    (folder / "README.md").write_text("another card")
    (folder / "LICENSE").write_text("a licence")
    (folder / "biorerank.json").write_text("{}")  # how scores are put together, not what the model computes
    assert models.content_hash(folder) == first
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    second = models.content_hash(folder)
    assert second != first
    (folder / "1_Pooling" / "config.json").write_text("{}")
    assert models.content_hash(folder) not in {first, second}


def test_pickled_weights_count_where_there_are_no_others(tiny_encoder_dir: Path, tmp_path: Path):
    folder = Path(shutil.copytree(tiny_encoder_dir, tmp_path / "model"))
    with_safetensors = models.content_hash(folder)
    (folder / "training_args.bin").write_bytes(b"1")
    assert models.content_hash(folder) == with_safetensors
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    first = models.content_hash(folder)
    (folder / "pytorch_model.bin").write_bytes(b"other weights")
    assert models.content_hash(folder) not in {first, with_safetensors}


def test_the_hash_of_no_model_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match="is no model folder"):
        models.content_hash(tmp_path)


QUESTION = "Is TP53 a tumour suppressor?"
TEXTS = ["TP53 suppresses tumours.", "Insulin lowers blood glucose. " * 30, "Ibuprofen inhibits COX.", ""]


def test_plain_sentence_transformers_reranks_as_we_do(no_network):
    import torch
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(models.path(models.DEFAULT_RERANKER)), device="cpu", local_files_only=True)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    theirs = model.predict([(QUESTION, text) for text in TEXTS])
    with BioReranker(dtype="float32", device="cpu") as reranker:
        ours = reranker.predict([(QUESTION, text) for text in TEXTS])
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert theirs[0] > max(theirs[1:])


def test_plain_sentence_transformers_embeds_as_we_do(no_network):
    import torch
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(models.path(models.DEFAULT_ENCODER)), device="cpu", local_files_only=True)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    encoder = BiEncoder(dtype="float32", device="cpu")
    queries, passages = model.encode([QUESTION]), model.encode(TEXTS)
    assert encoder.encode_queries([QUESTION]) == pytest.approx(queries, abs=1e-5)
    ours = encoder.encode_passages([Passage(str(place), text) for place, text in enumerate(TEXTS)])
    assert ours == pytest.approx(passages, abs=1e-5)
    assert (queries @ passages.T).argmax() == 0
