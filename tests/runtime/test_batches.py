"""Token-budget batches against their definition."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from biorerank_plugins.runtime.memory import token_budget_batches


@given(st.lists(st.integers(1, 600), max_size=60), st.integers(1, 2000))
def test_each_position_once_within_the_budget_longest_first(lengths, budget):
    batches = list(token_budget_batches(lengths, budget))
    order = [position for batch in batches for position in batch]
    assert order == sorted(range(len(lengths)), key=lambda p: (-lengths[p], p))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[p] for p in batch) <= budget
    for batch, following in pairwise(batches):  # no batch is smaller than it has to be
        assert (len(batch) + 1) * lengths[batch[0]] > budget, following


def test_nothing_gives_no_batch():
    assert list(token_budget_batches([], 10)) == []
