"""The fast CPU path computes what the plain one does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.packed import reference_attention
from torch import nn

from biorerank_plugins.runtime.packed.cpu_kernels import CpuAttention, PreparedLinear, can_prepare


def _offsets(*lengths: int) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))


def _heads(tokens: int, seed: int) -> torch.Tensor:
    # As the network gives them: parts of one product, not contiguous.
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(tokens, 3, 4, 8, generator=draw).unbind(1)[seed % 3]


# The last but one has more products than are made at once.
LENGTHS = [(7,), (5, 5, 5), (1, 9, 3, 40, 41, 38, 1), tuple(range(1, 30)), (300, 290, 310, 280, 9), (3, 0, 4, 0)]


@pytest.mark.parametrize("lengths", LENGTHS)
def test_attention_is_that_of_each_pair_alone(lengths):
    offsets = _offsets(*lengths)
    q, k, v = (_heads(sum(lengths), seed) for seed in range(3))
    arguments = (q, k, v, offsets, offsets, max(lengths), max(lengths))
    torch.testing.assert_close(CpuAttention()(*arguments), reference_attention(*arguments), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("lengths", LENGTHS[:-1])
def test_one_query_a_pair_meets_all_tokens_of_the_pair(lengths):
    offsets, rows = _offsets(*lengths), torch.arange(len(lengths) + 1, dtype=torch.int32)
    k, v = (_heads(sum(lengths), seed) for seed in (1, 2))
    q = _heads(len(lengths), 0)
    arguments = (q, k, v, rows, offsets, 1, max(lengths))
    torch.testing.assert_close(CpuAttention()(*arguments), reference_attention(*arguments), atol=1e-6, rtol=1e-5)


def test_batches_one_after_the_other_do_not_see_each_others_lengths():
    attention = CpuAttention()
    for lengths in ((4, 6), (6, 4), (10,)):
        offsets = _offsets(*lengths)
        q, k, v = (_heads(10, seed) for seed in range(3))
        arguments = (q, k, v, offsets, offsets, 10, 10)
        torch.testing.assert_close(attention(*arguments), reference_attention(*arguments), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_a_prepared_layer_gives_what_the_layer_gives(gelu, dtype, near):
    if not can_prepare(dtype):
        pytest.skip(f"this torch has no prepared weights in {dtype}")
    torch.manual_seed(0)
    layer = nn.Linear(96, 40)
    prepared = PreparedLinear(layer.weight, layer.bias, dtype, gelu=gelu)
    with torch.inference_mode():
        for rows in (1, 3, 1000):
            x = torch.randn(rows, 96)
            expected = layer(x)
            expected = nn.functional.gelu(expected) if gelu else expected
            torch.testing.assert_close(prepared(x.to(dtype)).float(), expected, atol=near, rtol=near)


def test_products_in_half_precision_are_those_of_all_pairs():
    lengths = (21, 20, 19, 21, 20, 18, 21)  # one group, multiplied as four, two and one
    offsets = _offsets(*lengths)
    q, k, v = (_heads(sum(lengths), seed) for seed in range(3))
    expected = reference_attention(q, k, v, offsets, offsets, 21, 21)
    half = (x.to(torch.bfloat16) for x in (q, k, v))
    given = CpuAttention()(*half, offsets, offsets, 21, 21)
    torch.testing.assert_close(given.float(), expected, atol=0.03, rtol=0.03)


def test_tokens_that_belong_to_no_pair_stay_zero():
    offsets = _offsets(4, 3, 0)
    q, k, v = (_heads(16, seed) for seed in range(3))
    read = CpuAttention()(q, k, v, offsets, offsets, 4, 4)
    assert torch.equal(read[7:], torch.zeros(9, 4, 8))
    assert read[:7].abs().min() > 0
