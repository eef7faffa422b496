"""Batches through the model: padding, precision, and what happens when a logit is not finite."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from biorerank_plugins.runtime.tokens import EncodedPair
from biorerank_plugins.scoring.torch_backend import TorchBackend

CPU = torch.device("cpu")


def _model(folder: Path):
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)


def _backend(model, dtype=torch.float32) -> TorchBackend:
    return TorchBackend(model, device=CPU, dtype=dtype, pad_id=0, has_types=True)


def _pairs(*lengths: int) -> list[EncodedPair]:
    draw = np.random.default_rng(0)
    return [
        EncodedPair(
            np.array([2, *draw.integers(5, 150, n).tolist(), 3], np.int32),
            np.array([0] * 3 + [1] * (n - 1), np.uint8),
            False,
            False,
        )
        for n in lengths
    ]


def test_padding_does_not_change_a_logit(tiny_cross_encoder_dir: Path):
    pairs, model = _pairs(5, 60, 3, 17), _model(tiny_cross_encoder_dir).eval()
    with torch.inference_mode():
        alone = [
            model(
                input_ids=torch.tensor(p.ids[None]).long(), token_type_ids=torch.tensor(p.types[None]).long()
            ).logits.item()
            for p in pairs
        ]
    together = _backend(model).forward(pairs)
    assert together.dtype == np.float32
    assert together == pytest.approx(alone, abs=1e-5)


def test_half_precision_keeps_a_head_in_fp32(tiny_cross_encoder_dir: Path):
    pairs = _pairs(*range(3, 60))
    exact = _backend(_model(tiny_cross_encoder_dir)).forward(pairs)
    model = _model(tiny_cross_encoder_dir)
    half = _backend(model, torch.bfloat16).forward(pairs)
    assert model.classifier.weight.dtype == torch.float32
    assert model.bert.encoder.layer[0].output.dense.weight.dtype == torch.bfloat16
    assert np.abs(half - exact).max() < 0.2 * np.abs(exact).max()
    assert (half != torch.tensor(half).bfloat16().float().numpy()).mean() > 0.9  # finer steps than bf16 has


def test_a_logit_that_overflows_in_fp16_is_computed_again_in_fp32(tiny_cross_encoder_dir: Path, caplog):
    """The pooler's input is scaled up and down again: inside, fp16 overflows and fp32 does not."""

    def scaled():
        model = _model(tiny_cross_encoder_dir)
        with torch.no_grad():
            layer = model.bert.encoder.layer[-1]
            layer.intermediate.dense.weight *= 3e3
            layer.intermediate.dense.bias.fill_(6e4)
            layer.output.dense.weight *= 10.0
        return model

    pairs = _pairs(5, 20, 9)
    exact = _backend(scaled()).forward(pairs)
    assert np.isfinite(exact).all()
    backend = _backend(scaled(), torch.float16)
    assert not np.isfinite(backend._run(pairs)).all()
    with caplog.at_level(logging.WARNING, logger="biorerank_plugins"):
        again = backend.forward(pairs)
    assert again == pytest.approx(exact, rel=0.05, abs=0.05)  # the weights were rounded to fp16
    assert "computed again in fp32" in caplog.text


def test_a_logit_that_stays_infinite_is_given_back(tiny_cross_encoder_dir: Path):
    model = _model(tiny_cross_encoder_dir)
    with torch.no_grad():
        model.classifier.bias.fill_(float("inf"))
    assert not np.isfinite(_backend(model).forward(_pairs(4))).any()
    assert not np.isfinite(_backend(model, torch.bfloat16).forward(_pairs(4))).any()


def test_weights_beyond_fp16_are_kept_in_fp32(tiny_cross_encoder_dir: Path, caplog):
    model = _model(tiny_cross_encoder_dir)
    with torch.no_grad():
        model.classifier.weight[0, 0] = 1e5
    with caplog.at_level(logging.WARNING, logger="biorerank_plugins"):
        backend = _backend(model, torch.float16)
    assert backend.dtype == torch.float32
    assert np.isfinite(backend.forward(_pairs(4))).all()
    assert "does not fit into fp16" in caplog.text
