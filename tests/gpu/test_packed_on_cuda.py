"""The packed backend on a GPU: attention, logits, many threads, and memory that runs out."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from support.packed import CPU, FAMILIES, HAVE_TYPES, make_model, make_pairs, padded_logits, reference_attention
from support.worker import run

from biorerank_plugins import BioReranker, models
from biorerank_plugins.runtime.packed.bert import attention_for
from biorerank_plugins.runtime.packed.support import why_not_packed
from biorerank_plugins.scoring.packed_backend import PackedBackend
from biorerank_plugins.scoring.worker import BatchWorker

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda")
HALVES = (torch.float16, torch.bfloat16)
MINILM = {
    "hidden_size": 384,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": 512,
    "initializer_range": 0.05,
}


def backend_of(model, dtype=torch.float16, has_types=True):
    assert why_not_packed(model, CUDA, dtype) is None
    return PackedBackend(model, device=CUDA, dtype=dtype, pad_id=0, has_types=has_types)


def close_to(given, expected, dtype=torch.float16, factor=1.0) -> None:
    step = 2**-10 if dtype == torch.float16 else 2**-7
    assert np.isfinite(given).all()
    assert np.abs(given - expected).max() < 30 * factor * step * max(1.0, float(np.abs(expected).max()))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("lengths", [(5, 64, 3, 17, 17, 1), (9,), (64, 64)], ids=str)
def test_logits_are_those_of_the_padded_forward(family, lengths, dtype):
    model, has_types, pairs = make_model(family), family in HAVE_TYPES, make_pairs(*lengths)
    expected = padded_logits(model, pairs, has_types=has_types)
    close_to(backend_of(model, dtype, has_types).forward(pairs), expected, dtype)


@pytest.mark.parametrize("size", [8, 32, 64, 128])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_attention_is_that_of_the_reference(size, dtype):
    """Also with a longest length above all, and with one query a pair."""
    torch.manual_seed(0)
    lengths = [5, 200, 1, 64, 129]
    offsets = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)
    rows = torch.tensor([0, 1, 2, 3, 4, 5], dtype=torch.int32)
    used = int(offsets[-1])
    q, k, v = (torch.randn(used, 4, size).to(dtype) for _ in range(3))
    attend = attention_for(CUDA)
    for in_q, ours_q, most_q in ((offsets, q, 512), (rows, q[:5], 1)):
        given = attend(ours_q.cuda(), k.cuda(), v.cuda(), in_q.cuda(), offsets.cuda(), most_q, 512).cpu().float()
        expected = reference_attention(ours_q.float(), k.float(), v.float(), in_q, offsets, most_q, 512)
        torch.testing.assert_close(given, expected, atol=2e-2, rtol=2e-2)


def test_many_threads_through_the_worker():
    model, draw = make_model(), np.random.default_rng(0)
    backend = backend_of(model)
    work = BatchWorker(backend.forward, 2_000, padded=False)
    requests = [make_pairs(*draw.integers(1, 64, draw.integers(1, 200)), seed=seed) for seed in range(24)]
    with ThreadPoolExecutor(8) as pool:
        for pairs, logits in zip(requests, pool.map(lambda p: run(work, p, lambda _: None), requests), strict=True):
            close_to(logits, padded_logits(model, pairs))
    work.close()


def test_memory_that_runs_out_halves_the_batch(caplog):
    model, pairs = make_model(num_hidden_layers=2, **MINILM), make_pairs(*[512] * 2_000)
    backend = backend_of(model)
    some = make_pairs(*[512] * 20)
    expected = backend.forward(some)
    work = BatchWorker(backend.forward, 2_000_000, padded=False)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(CUDA).total_memory
    try:
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 1.5e9) / total)
        with caplog.at_level(logging.WARNING, logger="biorerank_plugins"):
            logits = run(work, [*pairs, *some], lambda _: None)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        work.close()
    assert "Out of memory" in caplog.text
    assert work.max_batch_tokens < 1_030_000
    close_to(logits[2_000:], expected, factor=0.5)


def test_a_logit_that_overflows_is_computed_again_in_fp32(caplog):
    def overflowing():
        model = make_model("bert-relu")
        with torch.no_grad():
            layer = model.bert.encoder.layer[-1]
            layer.intermediate.dense.weight *= 3e3
            layer.intermediate.dense.bias.fill_(6e4)
            layer.output.dense.weight *= 10.0
        return model

    pairs = make_pairs(5, 20, 9)
    expected = padded_logits(overflowing(), pairs)
    backend = backend_of(overflowing())
    with caplog.at_level(logging.WARNING, logger="biorerank_plugins"):
        for _ in range(3):
            np.testing.assert_allclose(backend.forward(pairs), expected, rtol=1e-3, atol=1e-3)
    assert "computed again in fp32" in caplog.text


def test_weights_of_other_precisions_stay_on_the_host():
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    model = make_model(**MINILM)
    backend = backend_of(model)
    held = torch.cuda.memory_allocated() - before
    assert held < 2.3 * sum(parameter.numel() for parameter in model.parameters())
    assert {parameter.device for parameter in model.parameters()} == {CPU}
    assert backend.dtype == torch.float16


def test_the_reranker_takes_it_by_itself_and_keeps_the_order_of_fp32():
    folder = models.path(models.DEFAULT_RERANKER)
    if not (folder / "model.safetensors").is_file():
        pytest.skip("the embedded reranker is not here")
    query = "Does metformin lower blood glucose?"
    drugs, effects = ("Metformin", "Aspirin", "Insulin"), ("lowers", "raises", "has no effect on")
    texts = [f"{drug} {effect} glucose in patients with diabetes." for drug in drugs for effect in effects]
    with BioReranker(device="cuda") as half, BioReranker(device="cpu", dtype="float32") as exact:
        given, expected = half.rank(query, texts), exact.rank(query, texts)
        assert half.predict([(query, text) for text in texts]).shape == (len(texts),)
        assert type(half._scorer._backend).__name__ == "PackedBackend"
    logits = {one.input_index: one.logit for one in expected}
    assert given[0].input_index == expected[0].input_index
    for one in given:
        assert abs(one.logit - logits[one.input_index]) < 0.05
