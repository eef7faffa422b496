"""Buffers of packed pairs: what stands where, what rounding adds, and pairs that do not fit the model."""

from __future__ import annotations

import numpy as np
import pytest

from biorerank_plugins.runtime.packed import packing
from biorerank_plugins.runtime.packed.packing import Layout, Places, rounded
from biorerank_plugins.runtime.tokens import EncodedPair

BERT = Places(n_words=100, n_positions=64, n_types=2)


def pair(ids, types=None) -> EncodedPair:
    types = [0] * len(ids) if types is None else types
    return EncodedPair(np.array(ids, np.int32), np.array(types, np.uint8), False, False)


def packed(pairs, places=BERT, layout=None):
    layout = layout or Layout.of(pairs)
    return [part.tolist() for part in layout.split(packing.packed(pairs, places, layout))]


def test_pairs_lie_one_behind_the_other_and_count_from_their_own_beginning():
    pairs = [pair([2, 9, 3], [0, 0, 1]), pair([2, 3], [0, 1]), pair([7])]
    assert packed(pairs) == [
        [2, 9, 3, 2, 3, 7],
        [0, 1, 64 + 2, 0, 64 + 1, 0],
        [0, 3, 5, 6],
        [0, 1, 2, 3],
    ]


def test_what_a_layout_has_room_for_becomes_pairs_of_no_tokens():
    assert packed([pair([2, 9, 3], [0, 1, 1])], layout=Layout(tokens=5, pairs=3, longest=64)) == [
        [2, 9, 3, 0, 0],
        [0, 65, 66, 0, 0],
        [0, 3, 3, 3],
        [0, 1, 1, 1],
    ]


def test_a_model_without_segments_is_given_none():
    assert packed([pair([2, 3], [0, 1])], Places(100, 64, 1, has_types=False))[1] == [0, 1]


def test_positions_behind_the_padding_token():
    """RoBERTa: the first position is the padding token's id plus one, and a padding token in the text has none."""
    places = Places(100, 64, 1, has_types=False, padding=1)
    assert packed([pair([5, 1, 6, 7]), pair([8, 9])], places)[1] == [2, 1, 3, 4, 2, 3]
    assert places.longest == 62


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([pair([2] * 65)], "65 tokens; the model has positions for 64"),
        ([pair([2, 100])], "2 to 100; the model knows 0 to 99"),
        ([pair([2, -1])], "-1 to 3; the model knows 0 to 99"),
        ([pair([2, 3], [0, 2])], "segment id is 2; the model knows 2 segments"),
    ],
)
def test_a_pair_that_does_not_fit_the_model_is_refused(pairs, message):
    with pytest.raises(ValueError, match=message):
        packed([pair([2, 3]), *pairs])


def test_the_longest_pair_of_roberta_is_shorter_than_its_table():
    with pytest.raises(ValueError, match="63 tokens; the model has positions for 62"):
        packed([pair([2] * 63)], Places(100, 64, 1, padding=1))


def test_rounded_for_a_cpu_adds_little_and_gives_few_layouts() -> None:
    seen = set()
    for tokens in range(1, 2_049):
        layout = rounded(Layout(tokens, 1 + tokens % 64, 200))
        assert 0 <= layout.tokens - tokens <= (15 if tokens <= 256 else 63)
        assert 0 <= layout.pairs - (1 + tokens % 64) <= 7
        assert layout.longest == 200
        assert rounded(layout) == layout
        seen.add(layout.tokens)
    assert len(seen) == 16 + 28
