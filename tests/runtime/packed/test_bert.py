"""The packed forward gives what transformers gives for a padded batch, whatever lies beside a pair."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.packed import CPU, FAMILIES, HAVE_TYPES, make_model, make_pairs, padded_logits, reference_attention

from biorerank_plugins.runtime.packed import packing
from biorerank_plugins.runtime.packed.bert import PackedBert
from biorerank_plugins.runtime.packed.cpu_kernels import CpuAttention
from biorerank_plugins.runtime.packed.families import places_of
from biorerank_plugins.runtime.packed.packing import Layout, rounded

CLOSE = {"rtol": 0, "atol": 1e-5}


def packed(model, pairs, layout=None) -> tuple[torch.Tensor, ...]:
    places = places_of(model, has_types=getattr(model.config, "type_vocab_size", 1) > 1)
    layout = layout or Layout.of(pairs)
    return layout.split(torch.from_numpy(packing.packed(pairs, places, layout)))


@torch.inference_mode()
def packed_logits(model, pairs, layout=None, attention=reference_attention) -> np.ndarray:
    layout = layout or Layout.of(pairs)
    network = PackedBert(model, CPU, torch.float32, attention)
    return network(*packed(model, pairs, layout), layout.longest).numpy()[: len(pairs)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("lengths", [(5, 64, 3, 17, 17, 1), (9,), (64,), (1,), (64, 64)], ids=str)
def test_logits_are_those_of_the_padded_forward(family, lengths):
    model, has_types = make_model(family), family in HAVE_TYPES
    pairs = make_pairs(*lengths)
    expected = padded_logits(model, pairs, has_types=has_types)
    np.testing.assert_allclose(packed_logits(model, pairs), expected, **CLOSE)
    assert len(pairs) == 1 or np.ptp(expected) > 0.05 or set(lengths) == {64}


_kept_model = cache(make_model)  # for tests of many examples, which do not change it


@given(st.lists(st.integers(1, 64), min_size=1, max_size=12), st.integers(0, 9))
@settings(max_examples=12)
def test_a_logit_depends_on_its_own_pair_only(lengths, seed):
    model = _kept_model()
    pairs = make_pairs(*lengths, seed=seed)
    alone = np.concatenate([packed_logits(model, [pair]) for pair in pairs])
    np.testing.assert_allclose(packed_logits(model, pairs), alone, **CLOSE)
    np.testing.assert_allclose(packed_logits(model, pairs[::-1]), alone[::-1], **CLOSE)


@pytest.mark.parametrize("family", HAVE_TYPES)
def test_lost_segment_ids_would_show(family):
    model, pairs = make_model(family), make_pairs(20, 9, 33)
    ids, places, offsets, rows = packed(model, pairs)
    n_positions = model.config.max_position_embeddings
    network = PackedBert(model, CPU, torch.float32, reference_attention)
    with torch.inference_mode():
        without = network(ids, places % n_positions, offsets, rows, 33).numpy()
    assert np.abs(without - padded_logits(model, pairs)).max() > 1e-2
    np.testing.assert_allclose(without, padded_logits(model, pairs, has_types=False), **CLOSE)


def test_positions_that_go_on_would_show():
    model, pairs = make_model(), make_pairs(20, 9, 33)
    ids, places, offsets, rows = packed(model, pairs)
    on = torch.arange(62, dtype=torch.int32) + (places // 66) * 66
    network = PackedBert(model, CPU, torch.float32, reference_attention)
    with torch.inference_mode():
        wrong = network(ids, on, offsets, rows, 33).numpy()
    expected = padded_logits(model, pairs)
    assert np.abs(wrong - expected)[1:].min() > 1e-2
    np.testing.assert_allclose(wrong[0], expected[0], **CLOSE)


def test_attention_beyond_a_pair_would_show():
    def across(q, k, v, in_q, in_k, most_q, most_k):
        return reference_attention(q, k, v, in_q[[0, -1]], in_k[[0, -1]], most_q, most_k)

    model, pairs = make_model(), make_pairs(20, 9, 33)
    assert np.abs(packed_logits(model, pairs, attention=across) - padded_logits(model, pairs)).max() > 1e-2


@pytest.mark.parametrize("lengths", [(5, 64, 3, 17, 17, 1), (62, 9, 60), (1,)], ids=str)
def test_the_attention_of_a_cpu_knows_distances(lengths):
    model, pairs = make_model("mpnet"), make_pairs(*lengths)
    expected = padded_logits(model, pairs, has_types=False)
    np.testing.assert_allclose(packed_logits(model, pairs, attention=CpuAttention()), expected, **CLOSE)


def test_a_lost_bias_for_distances_would_show():
    def without(*given, bias):
        return reference_attention(*given)

    model, pairs = make_model("mpnet"), make_pairs(20, 9, 33)
    assert np.abs(packed_logits(model, pairs, attention=without) - padded_logits(model, pairs)).max() > 1e-2


def test_distances_in_the_far_buckets():
    """Beyond 128 tokens all distances share a bucket."""
    model, pairs = make_model("mpnet", max_position_embeddings=402), make_pairs(400, 150, 20)
    expected = padded_logits(model, pairs, has_types=False)
    for attention in (reference_attention, CpuAttention()):
        np.testing.assert_allclose(packed_logits(model, pairs, attention=attention), expected, **CLOSE)


def test_what_rounding_adds_changes_nothing():
    """A kernel leaves the rows outside of all pairs as they were: here they hold NaN."""

    def poisoned(q, k, v, in_q, in_k, most_q, most_k):
        read = reference_attention(q, k, v, in_q, in_k, most_q, most_k)
        read[in_q[-1] :] = torch.nan
        return read

    model, pairs = make_model(), make_pairs(20, 9, 33)
    layout = rounded(Layout.of(pairs))
    assert layout == Layout(tokens=64, pairs=8, longest=33)
    np.testing.assert_allclose(packed_logits(model, pairs, layout, poisoned), padded_logits(model, pairs), **CLOSE)


def test_a_batch_that_fills_its_layout_to_the_last_token():
    """The empty pairs at its end begin behind the last token."""
    model, pairs = make_model(), make_pairs(*[64] * 4)
    layout = rounded(Layout.of(pairs))
    assert layout == Layout(tokens=256, pairs=8, longest=64)
    np.testing.assert_allclose(packed_logits(model, pairs, layout), padded_logits(model, pairs), **CLOSE)


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "mpnet"])
def test_a_padding_token_within_a_text_has_no_position(family):
    """RoBERTa does not count it, and everything behind it moves up."""
    model, pairs = make_model(family), make_pairs(20, 9, 33, least=0)
    for pair in pairs:
        pair.ids[[2, 5]] = model.config.pad_token_id
    expected = padded_logits(model, pairs, has_types=False)
    np.testing.assert_allclose(packed_logits(model, pairs), expected, **CLOSE)


def test_the_head_computes_in_fp32():
    model, pairs = make_model(), make_pairs(*range(3, 60))
    network = PackedBert(model, CPU, torch.bfloat16, reference_attention)
    layout = Layout.of(pairs)
    with torch.inference_mode():
        half = network(*packed(model, pairs), layout.longest)
    assert half.dtype == torch.float32
    assert (half != half.bfloat16().float()).float().mean() > 0.9  # finer steps than bf16 has
    assert np.abs(half.numpy() - padded_logits(model, pairs)).max() < 0.2
    assert model.bert.encoder.layer[0].output.dense.weight.dtype == torch.float32  # the caller's stays as it is


def test_weights_are_shared_where_nothing_changes():
    model = make_model()
    network = PackedBert(model, CPU, torch.float32, reference_attention)
    assert network.words.data_ptr() == model.bert.embeddings.word_embeddings.weight.data_ptr()
