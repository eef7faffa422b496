"""Which backend runs a model: what is chosen, what is said about it, and what is refused."""

from __future__ import annotations

import logging
import shutil

import numpy as np
import pytest
import torch
from support.packed import needs_bytes
from support.scorers import zero

from biorerank_plugins import BioReranker
from biorerank_plugins.errors import ModelError
from biorerank_plugins.runtime.devices import cpu_has_bf16
from biorerank_plugins.runtime.packed import byte_kernels
from biorerank_plugins.scoring.backends import where_to_compute

CPU = torch.device("cpu")
PAIRS = [
    ("is p53 a tumour suppressor", text)
    for text in ("p53 suppresses tumours", "aspirin", "", "insulin lowers glucose in the cells of the heart " * 9)
]
AUTO = torch.bfloat16 if cpu_has_bf16() else torch.float32


@pytest.mark.parametrize(
    ("backend", "dtype", "expected"),
    [
        ("auto", "auto", AUTO),
        ("auto", None, AUTO),
        ("packed", "bf16", torch.bfloat16),
        ("torch", "float32", torch.float32),
        ("packed", "int8", torch.int8),
        ("auto", "int8", torch.int8),
        ("auto", torch.int8, torch.int8),
    ],
)
def test_where_a_model_computes(backend, dtype, expected):
    assert where_to_compute(backend, "cpu", dtype) == (CPU, expected)


def test_what_runs_on_a_cpu_only_goes_there_by_itself():
    assert where_to_compute("auto", None, "int8")[0] == CPU


@pytest.mark.parametrize(
    ("backend", "dtype", "message"),
    [
        ("openvino", "auto", r"backend='openvino' is unknown\. Choose one of: auto, torch, packed"),
        ("auto", "int4", r"dtype='int4' is unknown\. Choose one of: auto, float32, bfloat16, float16, int8"),
        ("torch", "int8", r"dtype='int8' needs backend='packed' \(or 'auto'\); got backend='torch'"),
        ("auto", "float16", r"dtype='float16' is not possible on a CPU"),
    ],
)
def test_what_does_not_go_together_is_refused(backend, dtype, message):
    with pytest.raises(ValueError, match=message):
        where_to_compute(backend, "cpu", dtype)


@pytest.mark.parametrize("backend", ["auto", "torch", "packed"])
def test_all_backends_give_the_scores_of_sentence_transformers(backend, tiny_cross_encoder_dir):
    from sentence_transformers import CrossEncoder

    expected = CrossEncoder(str(tiny_cross_encoder_dir), device="cpu").predict(PAIRS)
    with BioReranker(tiny_cross_encoder_dir, backend=backend, dtype="float32", device="cpu") as reranker:
        assert reranker.predict(PAIRS) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({}, r"runs on backend packed in .* on cpu: no padding, and this model allows it\."),
        ({"backend": "torch"}, r"runs on backend torch in .* on cpu: asked for\."),
        ({"dtype": "int8"}, r"runs on backend packed in int8 on cpu: int8 was asked for\."),
    ],
)
def test_a_log_line_says_what_was_chosen_and_why(options, line, tiny_cross_encoder_dir, tmp_path, caplog):
    folder = shutil.copytree(tiny_cross_encoder_dir, tmp_path / "model")  # that nobody else has loaded
    with caplog.at_level(logging.INFO, "biorerank_plugins"), BioReranker(folder, **options) as reranker:
        reranker.warm_up()
    said = [record.getMessage() for record in caplog.records]
    import re

    assert any(re.search(line, message) for message in said), said


def test_a_model_that_the_packed_pass_does_not_cover_runs_padded(tmp_path, make_tokenizer, caplog):
    folder = _distilbert(tmp_path, make_tokenizer)
    with (
        caplog.at_level(logging.INFO, "biorerank_plugins"),
        BioReranker(folder, dtype="float32", device="cpu") as reranker,
    ):
        assert np.isfinite(reranker.predict(PAIRS)).all()
    assert "runs on backend torch in float32 on cpu: DistilBertForSequenceClassification is none of" in caplog.text


@pytest.mark.parametrize("options", [{"backend": "packed"}, {"dtype": "int8"}])
def test_and_is_refused_where_another_backend_was_asked_for(options, tmp_path, make_tokenizer):
    folder = _distilbert(tmp_path, make_tokenizer)
    with (
        pytest.raises(ModelError, match="DistilBertForSequenceClassification is none of"),
        BioReranker(folder, **{"dtype": "float32", "device": "cpu", **options}) as reranker,
    ):
        reranker.warm_up()


def test_int8_where_it_is_not_possible_is_computed_more_exactly(tiny_cross_encoder_dir, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(byte_kernels, "why_no_bytes", lambda: "there are no bytes.")
    folder = shutil.copytree(tiny_cross_encoder_dir, tmp_path / "model")
    with BioReranker(folder, dtype="int8") as reranker, BioReranker(folder, device="cpu") as default:
        assert reranker.predict(PAIRS) == pytest.approx(default.predict(PAIRS), abs=1e-6)
    name = str(AUTO).removeprefix("torch.")
    assert f"int8 is not possible here: there are no bytes. Computing in {name}." in caplog.text


@needs_bytes
def test_what_named_onnx_runtime_goes_on_with_a_warning(tiny_cross_encoder_dir):
    def given(**options):
        with BioReranker(tiny_cross_encoder_dir, device="cpu", **options) as reranker:
            return list(reranker.predict(PAIRS))

    with pytest.warns(DeprecationWarning, match="backend='onnx' is gone") as told:
        assert given(backend="onnx") == given(dtype="float32")
    assert told[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="Leave it out"):
        assert given(backend="onnx", dtype="int8") == given(dtype="int8")


def test_a_scorer_of_the_users_own_takes_no_impossible_option():
    with pytest.raises(ValueError, match="backend='fast' is unknown"):
        BioReranker(zero(), backend="fast").rank("q", ["a"])


def _distilbert(folder, make_tokenizer):
    from sentence_transformers import CrossEncoder
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    raw = folder / "raw"
    raw.mkdir()
    make_tokenizer(raw)
    config = DistilBertConfig(vocab_size=200, dim=32, n_layers=1, n_heads=2, hidden_dim=64, num_labels=1)
    DistilBertForSequenceClassification(config).save_pretrained(raw)
    CrossEncoder(str(raw), device="cpu").save_pretrained(str(folder / "model"))
    return folder / "model"
