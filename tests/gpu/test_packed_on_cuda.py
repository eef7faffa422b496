"""The packed backend on a GPU: attention, graphs, kernels, batches on their way, and memory that runs out."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from support.packed import CPU, FAMILIES, HAVE_TYPES, make_model, make_pairs, padded_logits

from biorerank_plugins import BioReranker, models
from biorerank_plugins.scoring.packed.attention import attention_for, reference_attention
from biorerank_plugins.scoring.packed.backend import packed_backend, why_not_packed
from biorerank_plugins.scoring.packed.fused import add_norm, fused_add_norm
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


def backend_of(model, dtype=torch.float16, has_types=True, **options):
    assert why_not_packed(model, CUDA, dtype) is None
    return packed_backend(model, device=CUDA, dtype=dtype, pad_id=0, has_types=has_types, **options)


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
    """Also with the empty pairs at the end of a bucket, a longest length above all, and one query a pair."""
    torch.manual_seed(0)
    lengths = [5, 200, 1, 64, 129, 0, 0]
    offsets = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)
    rows = torch.tensor([0, 1, 2, 3, 4, 5, 5, 5], dtype=torch.int32)
    used = int(offsets[-1])
    q, k, v = (torch.randn(used + 57, 4, size).to(dtype) for _ in range(3))
    attend = attention_for(CUDA)
    for in_q, ours_q, most_q in ((offsets, q, 512), (rows, q[:7], 1)):
        given = attend(ours_q.cuda(), k.cuda(), v.cuda(), in_q.cuda(), offsets.cuda(), most_q, 512).cpu().float()
        expected = reference_attention(ours_q.float(), k.float(), v.float(), in_q, offsets, most_q, 512)
        inside = int(in_q[-1])
        torch.testing.assert_close(given[:inside], expected[:inside], atol=2e-2, rtol=2e-2)


def test_graphs_give_the_logits_of_their_kernels():
    """Sizes that change from batch to batch, more of them than graphs that are kept, and buckets filled to the end."""
    model, draw = make_model(num_hidden_layers=2, **MINILM), np.random.default_rng(0)
    with_graphs, without = backend_of(model, max_graphs=4), backend_of(model, graph_tokens=0)
    for seed in range(60):
        pairs = make_pairs(*draw.integers(1, 300, draw.integers(1, 30)), seed=seed)
        close_to(with_graphs.forward(pairs), without.forward(pairs), factor=0.2)
    for _ in range(3):
        pairs = make_pairs(*[256] * 16)
        close_to(with_graphs.forward(pairs), without.forward(pairs), factor=0.2)
    assert len(with_graphs._graphs) == 4
    assert len(without._graphs) == 0


def test_graphs_are_really_replayed(caplog):
    model, pairs = make_model(**MINILM), make_pairs(*[100] * 20)
    backend = backend_of(model)
    with caplog.at_level(logging.WARNING, logger="biorerank_plugins"):
        given = [backend.forward(pairs) for _ in range(4)]
    assert len(backend._graphs) == 1
    assert not caplog.records
    assert (given[2] == given[3]).all()


def test_other_threads_use_the_device_while_graphs_are_captured():
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            torch.randn(500, 500, device=CUDA) @ torch.randn(500, 500, device=CUDA)
            torch.randn(3).pin_memory()

    model, draw = make_model(), np.random.default_rng(0)
    backend = backend_of(model)
    with ThreadPoolExecutor(2) as pool:
        others = [pool.submit(busy) for _ in range(2)]
        try:
            for seed in range(30):
                pairs = make_pairs(*[64] * int(draw.integers(1, 64)), seed=seed)
                for _ in range(3):
                    close_to(backend.forward(pairs), padded_logits(model, pairs))
        finally:
            stop.set()
        for other in others:
            other.result()
    assert len(backend._graphs) > 5


def test_the_fused_layer_norm_is_torchs():
    fused = fused_add_norm(CUDA)
    assert fused is not add_norm
    torch.manual_seed(0)
    for rows, hidden in ((1, 32), (1000, 384), (333, 768), (7, 1024)):
        for dtype in HALVES:
            one, other = (torch.randn(rows, hidden, device=CUDA, dtype=dtype) for _ in range(2))
            weight, bias = (torch.randn(hidden, device=CUDA, dtype=dtype) for _ in range(2))
            given = fused(one, other, weight, bias, 1e-12)
            expected = add_norm(one.float(), other.float(), weight.float(), bias.float(), 1e-12)
            torch.testing.assert_close(given.float(), expected, atol=3e-2, rtol=3e-2)


@pytest.mark.parametrize("options", [{"fused": True}, {"fused": True, "graph_tokens": 0}], ids=str)
def test_fused_layers_give_the_same_logits(options):
    model, pairs = make_model(**MINILM), make_pairs(5, 300, 3, 17)
    backend = backend_of(model, **options)
    for _ in range(3):
        close_to(backend.forward(pairs), padded_logits(model, pairs))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [{}, {"graph_tokens": 0}], ids=str)
def test_compiled_layers_give_the_same_logits(options):
    model = make_model(**MINILM)
    backend = backend_of(model, compiled=True, **options)
    for seed, lengths in enumerate([(5, 300, 3, 17), (9, 9), (5, 300, 3, 17), (200,) * 5]):
        pairs = make_pairs(*lengths, seed=seed)
        close_to(backend.forward(pairs), padded_logits(model, pairs))


def test_batches_on_their_way_do_not_mix():
    model, draw = make_model(), np.random.default_rng(0)
    backend = backend_of(model)
    batches = [make_pairs(*draw.integers(1, 64, draw.integers(1, 50)), seed=seed) for seed in range(40)]
    for first in range(0, 40, 5):
        finish = [backend.start(pairs) for pairs in batches[first : first + 5]]
        for pairs, end in zip(batches[first : first + 5], finish, strict=True):
            close_to(end(), padded_logits(model, pairs))


def test_many_threads_through_the_worker():
    model, draw = make_model(), np.random.default_rng(0)
    backend = backend_of(model)
    work = BatchWorker(backend.forward, 2_000, start=backend.start, padded=False)
    requests = [make_pairs(*draw.integers(1, 64, draw.integers(1, 200)), seed=seed) for seed in range(24)]
    with ThreadPoolExecutor(8) as pool:
        for pairs, logits in zip(requests, pool.map(lambda p: work.run(p, lambda _: None), requests), strict=True):
            close_to(logits, padded_logits(model, pairs))
    work.close()


def test_memory_that_runs_out_halves_the_batch(caplog):
    model, pairs = make_model(num_hidden_layers=2, **MINILM), make_pairs(*[512] * 2_000)
    backend = backend_of(model)
    some = make_pairs(*[512] * 20)
    expected = backend.forward(some)
    work = BatchWorker(backend.forward, 2_000_000, start=backend.start, padded=False)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(CUDA).total_memory
    try:
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 1.5e9) / total)
        with caplog.at_level(logging.WARNING, logger="biorerank_plugins"):
            logits = work.run([*pairs, *some], lambda _: None)
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
        assert type(half._scorer._backend).__name__ == "PipelinedPackedBackend"
    logits = {one.input_index: one.logit for one in expected}
    assert given[0].input_index == expected[0].input_index
    for one in given:
        assert abs(one.logit - logits[one.input_index]) < 0.05
