"""Packed batches as a backend: values, what is computed again, and what is refused."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from support.packed import CPU, FAMILIES, HAVE_TYPES, make_model, make_pairs, needs_bytes, padded_logits

from biorerank_plugins.runtime.calls import Call, Watch
from biorerank_plugins.scoring.packed_backend import PackedBackend
from biorerank_plugins.scoring.worker import BatchWorker

CLOSE = {"rtol": 0, "atol": 1e-5}


def backend_of(model, dtype=torch.float32, has_types=True):
    return PackedBackend(model, device=CPU, dtype=dtype, pad_id=0, has_types=has_types)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_padded_forward(family):
    model, has_types = make_model(family), family in HAVE_TYPES
    pairs = make_pairs(5, 64, 3, 17, 1)
    expected = padded_logits(model, pairs, has_types=has_types)
    given = backend_of(model, has_types=has_types).forward(pairs)
    assert given.dtype == np.float32
    np.testing.assert_allclose(given, expected, **CLOSE)


def test_segment_ids_are_left_out_for_a_model_that_takes_none():
    model, pairs = make_model(), make_pairs(5, 17)
    expected = padded_logits(model, pairs, has_types=False)
    np.testing.assert_allclose(backend_of(model, has_types=False).forward(pairs), expected, **CLOSE)
    assert np.abs(backend_of(model).forward(pairs) - expected).max() > 1e-2


def test_bf16_is_close_and_the_callers_weights_stay():
    model, pairs = make_model(), make_pairs(*range(3, 60))
    expected = padded_logits(model, pairs)
    given = backend_of(model, torch.bfloat16).forward(pairs)
    assert 0 < np.abs(given - expected).max() < 0.2
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@needs_bytes
@pytest.mark.parametrize("family", FAMILIES)
def test_int8_is_close_and_does_not_depend_on_its_neighbours(family):
    model, has_types = make_model(family), family in HAVE_TYPES
    pairs = make_pairs(*range(3, 60), types=2 if has_types else 1)
    expected = padded_logits(model, pairs, has_types=has_types)
    backend = backend_of(model, torch.int8, has_types)
    assert backend.dtype == torch.int8
    given = backend.forward(pairs)
    assert 0 < np.sqrt(np.mean((given - expected) ** 2)) < 0.2 * expected.std()
    np.testing.assert_allclose(backend.forward(pairs[7:8]), given[7:8], **CLOSE)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def overflowing():
    """fp32 holds what the last feed-forward layer computes, bf16 does not: its largest number is 3.39e38."""
    model = make_model("bert-relu")
    with torch.no_grad():
        layer = model.bert.encoder.layer[-1]
        layer.intermediate.dense.bias.fill_(3.4e38)
        layer.output.dense.weight *= 1e-38
    return model


def test_a_logit_that_overflows_is_computed_again_in_fp32(caplog):
    pairs = make_pairs(5, 20, 9)
    expected = padded_logits(overflowing(), pairs)
    assert np.isfinite(expected).all()
    backend = backend_of(overflowing(), torch.bfloat16)
    with caplog.at_level(logging.WARNING, logger="biorerank_plugins"):
        np.testing.assert_allclose(backend.forward(pairs), expected, **CLOSE)
        np.testing.assert_allclose(backend.forward(pairs), expected, **CLOSE)
    assert caplog.text.count("computed again in fp32") == 2


def test_a_logit_that_stays_infinite_is_given_back():
    for dtype in (torch.float32, torch.bfloat16):
        model = make_model()
        with torch.no_grad():
            model.classifier.bias.fill_(float("inf"))
        assert not np.isfinite(backend_of(model, dtype).forward(make_pairs(4))).any()


def test_what_cannot_be_packed_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"backend='packed' is not possible here: it has 2 labels.*backend='auto'"):
        backend_of(make_model(num_labels=2))


def test_pairs_that_do_not_fit_the_model_are_refused():
    backend = backend_of(make_model())
    with pytest.raises(ValueError, match="67 tokens; the model has positions for 66"):
        backend.forward(make_pairs(3, 67))
    assert backend.forward(make_pairs(3, 66)).shape == (2,)


def test_through_the_worker_with_pairs_in_parts():
    model = make_model()
    work = BatchWorker(backend_of(model).forward, 300, padded=False)
    draw = np.random.default_rng(1)
    parts = [make_pairs(*draw.integers(1, 64, 30), seed=seed) for seed in range(6)]
    with work.submit(Watch(Call(), 180, lambda _: None)) as request:
        for part in parts:
            work.add(request, part)
        logits = work.result(request)
    work.close()
    np.testing.assert_allclose(logits, padded_logits(model, [pair for part in parts for pair in part]), **CLOSE)
