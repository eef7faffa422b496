"""Packed batches as a backend: values, what is computed again, what is refused, and batches on their way."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from support.packed import CPU, FAMILIES, HAVE_TYPES, HostGraphs, HostLane, make_model, make_pairs, padded_logits

from biorerank_plugins.scoring.packed.backend import PipelinedPackedBackend, packed_backend
from biorerank_plugins.scoring.worker import BatchWorker

CLOSE = {"rtol": 0, "atol": 1e-5}


def backend_of(model, dtype=torch.float32, has_types=True, **options):
    return packed_backend(model, device=CPU, dtype=dtype, pad_id=0, has_types=has_types, **options)


def pipelined(model, **options):
    """The backend of a GPU on the CPU, with its lane and its graphs."""
    kept = []

    def capture(lane, network):
        kept.append(HostGraphs(lane, network))
        return kept[0]

    options = {"lane": HostLane, "capture": capture, "dtype": torch.float32, **options}
    backend = PipelinedPackedBackend(model, device=CPU, pad_id=0, has_types=True, **options)
    return backend, kept[0]


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
    for backend in (backend_of(overflowing(), torch.bfloat16), pipelined(overflowing(), dtype=torch.bfloat16)[0]):
        caplog.clear()
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
    for backend in (backend_of(make_model()), pipelined(make_model())[0]):
        with pytest.raises(ValueError, match="67 tokens; the model has positions for 66"):
            backend.forward(make_pairs(3, 67))
        assert backend.forward(make_pairs(3, 66)).shape == (2,)


def test_batches_on_their_way_do_not_mix():
    model = make_model()
    backend, _ = pipelined(model, graph_tokens=0)
    batches = [
        make_pairs(*lengths, seed=seed) for seed, lengths in enumerate([(5, 64, 3), (7,), (9, 9), (60, 2, 2, 8)])
    ]
    finish = [backend.start(pairs) for pairs in batches]
    assert backend._lane.waited == 0
    for pairs, end in zip(batches, finish, strict=True):
        np.testing.assert_allclose(end(), padded_logits(model, pairs), **CLOSE)
    assert len(backend._slots) == 4


def test_memory_of_batches_that_are_done_is_used_again():
    model = make_model()
    backend, _ = pipelined(model, graph_tokens=0)
    first = backend.start(make_pairs(30, 30))()
    allocated = len(backend._lane.allocated)
    kept = first.copy()
    for seed in range(5):
        backend.start(make_pairs(20, 40, seed=seed))()
    assert len(backend._lane.allocated) == allocated
    assert (first == kept).all()  # the logits are the caller's, not a view of that memory


def test_a_graph_is_captured_when_its_sizes_come_again_and_then_replayed():
    model = make_model()
    backend, graphs = pipelined(model)
    for seed in range(4):
        pairs = make_pairs(*range(5, 25 + seed), seed=seed)
        np.testing.assert_allclose(backend.forward(pairs), padded_logits(model, pairs), **CLOSE)
        assert (len(graphs.captured), len(graphs.replayed)) == (min(seed, 1), seed)


def test_graphs_of_many_sizes_give_the_same_logits():
    model, draw = make_model(), np.random.default_rng(3)
    backend, graphs = pipelined(model, max_graphs=3)
    for seed in range(30):
        pairs = make_pairs(*draw.integers(1, 64, draw.integers(1, 40)), seed=seed)
        np.testing.assert_allclose(backend.forward(pairs), padded_logits(model, pairs), **CLOSE)
    assert len(backend._graphs) == 3
    assert len(graphs.captured) > 3
    assert len(graphs.replayed) > 10


def test_two_batches_of_one_graph_on_their_way():
    """The graph's result is copied before it is overwritten."""
    model = make_model()
    backend, graphs = pipelined(model)
    batches = [make_pairs(20, 30, seed=seed) for seed in range(5)]
    finish = [backend.start(pairs) for pairs in batches]
    for pairs, end in zip(batches, finish, strict=True):
        np.testing.assert_allclose(end(), padded_logits(model, pairs), **CLOSE)
    assert len(graphs.replayed) == 4


def test_large_batches_get_no_graph():
    backend, graphs = pipelined(make_model(), graph_tokens=100)
    for _ in range(4):
        backend.forward(make_pairs(50, 51))
    assert not graphs.captured
    for _ in range(4):
        backend.forward(make_pairs(50, 50))
    assert len(graphs.captured) == 1


def test_a_graph_that_cannot_be_captured_is_done_without(caplog):
    model, pairs = make_model(), make_pairs(20, 30)
    backend, graphs = pipelined(model)
    graphs.fail = "CUDA error: operation not permitted when stream is capturing\nmore"
    with caplog.at_level(logging.WARNING, logger="biorerank_plugins"):
        for _ in range(4):
            np.testing.assert_allclose(backend.forward(pairs), padded_logits(model, pairs), **CLOSE)
    assert caplog.messages == ["No CUDA graphs: CUDA error: operation not permitted when stream is capturing"]


def test_a_failed_batch_leaves_the_next_ones_alone():
    model, pairs = make_model(), make_pairs(20, 30)
    backend, _ = pipelined(model)
    waiting = backend.start(pairs)
    with pytest.raises(ValueError, match="67 tokens"):
        backend.start(make_pairs(67))
    np.testing.assert_allclose(backend.forward(pairs), padded_logits(model, pairs), **CLOSE)
    np.testing.assert_allclose(waiting(), padded_logits(model, pairs), **CLOSE)
    assert backend._lane.inside == 0


def test_through_the_worker_with_pairs_in_parts():
    model = make_model()
    backend, graphs = pipelined(model)
    work = BatchWorker(backend.forward, 300, start=backend.start, padded=False)
    draw = np.random.default_rng(1)
    parts = [make_pairs(*draw.integers(1, 64, 30), seed=seed) for seed in range(6)]
    with work.submit(lambda _: None) as submission:
        for part in parts:
            submission.add(part)
        logits = submission.result()
    work.close()
    np.testing.assert_allclose(logits, padded_logits(model, [pair for part in parts for pair in part]), **CLOSE)
    assert graphs.replayed
