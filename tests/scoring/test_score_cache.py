"""The score cache: the same values as without it, counted, bounded in bytes, and free of failures."""

from __future__ import annotations

import tracemalloc
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.texts import WORDS, texts_of

from biorerank_plugins import BioReranker, Passage
from biorerank_plugins.errors import ScoringError
from biorerank_plugins.scoring.cache import ENTRY_BYTES, ScoreCache
from biorerank_plugins.scoring.scores import PairScores

QUERY = "is p53 a tumour suppressor"
_texts = partial(texts_of, words=WORDS[:-2])


def _lines(ranking):
    return [(line.input_index, line.logit, line.score, line.truncated, line.n_windows) for line in ranking]


class Counting:
    """A model of the user's own that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def logits(self, query, texts):
        self.asked += [(query, text) for text in texts]
        return [float("nan") if "bad" in text else float(len(query) * 100 + len(text)) for text in texts]


def test_what_was_scored_is_not_scored_again():
    model = Counting()
    with BioReranker(model, cache_bytes=1_000_000) as reranker:
        first = reranker.rank("one", ["a", "bb", "a"])
        assert reranker.cache_info()[:3] == (0, 2, 2)
        again = reranker.rank("one", ["bb", "a", "ccc"])
        assert model.asked == [("one", "a"), ("one", "bb"), ("one", "ccc")]
        assert {line.passage.text: line.logit for line in again} == {"a": 301.0, "bb": 302.0, "ccc": 303.0}
        assert [line.logit for line in first] == [302.0, 301.0, 301.0]
        reranker.rank("two", ["a"])  # another question, another pair
        assert model.asked[-1] == ("two", "a")
        info = reranker.cache_info()
        assert (info.hits, info.misses, info.entries, info.max_bytes) == (2, 4, 4, 1_000_000)
        assert info.hit_rate == pytest.approx(2 / 6)


def test_without_it_everything_is_scored_and_nothing_is_counted():
    model = Counting()
    with BioReranker(model) as reranker:
        reranker.rank("one", ["a"])
        reranker.rank("one", ["a"])
        assert model.asked == [("one", "a")] * 2
        assert reranker.cache_info() == (0, 0, 0, 0, 0)
        assert reranker.cache_info().hit_rate == 0.0


def test_failures_are_not_kept():
    model = Counting()
    with BioReranker(model, cache_bytes=1_000_000) as reranker:
        for _ in range(2):
            with pytest.raises(ScoringError, match="1 of 2 passages: x"):
                reranker.rank("q", [Passage("x", "bad"), Passage("y", "good")])
        # The good one was kept, the bad one was asked for again.
        assert model.asked == [("q", "bad"), ("q", "good"), ("q", "bad")]
        assert reranker.cache_info().entries == 1


def test_a_call_that_fails_keeps_nothing():
    class Breaks:
        def logits(self, query, texts):
            raise OSError("no connection")

    with BioReranker(Breaks(), cache_bytes=1_000_000) as reranker:
        with pytest.raises(OSError, match="no connection"):
            reranker.rank("q", ["a", "b"])
        assert reranker.cache_info().entries == 0


@pytest.mark.parametrize("windows", [True, False])
def test_values_flags_and_evidence_are_those_of_a_reranker_without(tiny_cross_encoder_dir: Path, windows):
    options = {"device": "cpu", "dtype": "float32", "windows": windows}
    texts = [*_texts(20), *_texts(6, seed=1, longest=400)]
    with (
        BioReranker(tiny_cross_encoder_dir, **options) as plain,
        BioReranker(tiny_cross_encoder_dir, **options, cache_bytes=1_000_000) as cached,
    ):
        expected = plain.rank(QUERY, texts, evidence=1)
        for _ in range(2):
            found = cached.rank(QUERY, texts, evidence=1)
            assert _lines(found) == _lines(expected)  # the first time nothing is there; the second time all is
            assert [line.evidence for line in found] == [line.evidence for line in expected]
        # In another mix some are computed anew: within what rounding allows, ten times that of trained weights.
        mixed = {line.input_index: line.logit for line in cached.rank(QUERY, [*_texts(9, seed=2), *texts])}
        alone = {line.input_index: line.logit for line in plain.rank(QUERY, [*_texts(9, seed=2), *texts])}
        assert mixed == pytest.approx(alone, abs=1e-4)
        assert any(line.truncated for line in expected) is not windows
        info = cached.cache_info()
        assert info.hits >= info.entries - 9
        query = "cells " * 200
        assert [cached.rank(query, ["p53"]).query_truncated for _ in range(2)] == [True, True]


def test_prefixes_and_models_do_not_mix(tiny_cross_encoder_dir: Path):
    cache = ScoreCache(100_000)

    def gives(value: float):
        return lambda pairs: PairScores(np.full(len(pairs), value, np.float32), *np.zeros((2, len(pairs)), np.bool_))

    pairs = [("a", "bc"), ("ab", "c"), ("a", "b c"), ("", "abc"), ("a\ud800", "b")]
    for number, model in enumerate((b"one", b"two")):
        assert cache.scores(model, pairs, gives(number)).logits.tolist() == [number] * 5
    for number, pair in enumerate(pairs):
        assert cache.scores(b"one", [pair], gives(9)).logits.tolist() == [0]
        assert cache.scores(b"three", [pair], gives(number)).logits.tolist() == [number]


def test_the_model_hash_follows_weights_precision_and_lengths(tiny_cross_encoder_dir: Path, tmp_path: Path):
    import shutil

    from biorerank_plugins.scoring.load_options import LoadOptions
    from biorerank_plugins.scoring.shared import shared_scorer

    def hashed(folder: Path, **changed: object) -> bytes:
        options = {"device": "cpu", "dtype": "float32", "backend": "torch", **changed}
        return shared_scorer(LoadOptions(folder, **options)).fingerprint()

    plain = hashed(tiny_cross_encoder_dir)
    assert plain == hashed(tiny_cross_encoder_dir)
    copied = Path(shutil.copytree(tiny_cross_encoder_dir, tmp_path / "copy"))
    assert hashed(copied) == plain  # wherever the same files are
    changes = [{"dtype": "bfloat16"}, {"backend": "packed"}, {"max_length": 64}, {"query_max_length": 16}]
    assert len({plain, *(hashed(tiny_cross_encoder_dir, **change) for change in changes)}) == 5
    weights = copied / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert hashed(copied) != plain


@settings(max_examples=60)
@given(st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=5, unique=True)), st.integers(0, 5))
def test_it_is_an_lru_cache(calls, room):
    """Against the slow way: a list, least recently used first."""
    cache = ScoreCache(room * ENTRY_BYTES)
    reference: OrderedDict[str, float] = OrderedDict()
    hits = 0
    for texts in calls:
        asked: list[str] = []

        def compute(pairs, asked=asked):
            asked += [text for _, text in pairs]
            return PairScores(
                np.array([float(ord(text)) for _, text in pairs], np.float32), *np.zeros((2, len(pairs)), np.bool_)
            )

        got = cache.scores(b"model", [("q", text) for text in texts], compute)
        assert got.logits.tolist() == [float(ord(text)) for text in texts]
        assert asked == [text for text in texts if text not in reference]
        hits += len(texts) - len(asked)
        for text in [text for text in texts if text in reference] + asked:
            reference[text] = 0.0
            reference.move_to_end(text)
        while len(reference) > room:
            reference.popitem(last=False)
        info = cache.info()
        assert (info.entries, info.bytes, info.hits) == (len(reference), len(reference) * ENTRY_BYTES, hits)


@pytest.mark.parametrize("logit", [0.0, -0.0, -7.25, 1e30, 1.4e-45, -3.4e38])
@pytest.mark.parametrize("flags", [(False, False), (True, False), (False, True), (True, True)])
def test_a_logit_comes_back_bit_by_bit(logit, flags):
    cache = ScoreCache(10_000)
    given = PairScores(np.array([logit], np.float32), *(np.array([flag]) for flag in flags))
    for _ in range(2):
        found = cache.scores(b"", [("q", "t")], lambda _: given)
        assert found.logits.tobytes() == given.logits.tobytes()
        assert (found.truncated.tolist(), found.query_truncated.tolist()) == ([flags[0]], [flags[1]])
    assert cache.info().hits == 1


def test_it_takes_no_more_memory_than_it_says():
    n = 20_000
    cache = ScoreCache(n * ENTRY_BYTES)
    nothing = np.zeros(500, np.bool_)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for start in range(0, 3 * n, 500):
            pairs = [("q", str(start + number)) for number in range(500)]
            cache.scores(
                b"", pairs, lambda _: PairScores(np.random.default_rng(0).random(500, np.float32), nothing, nothing)
            )
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert cache.info().entries == n
    assert n * 100 < taken <= cache.info().bytes <= cache.info().max_bytes


def test_threads_get_what_one_gets(tiny_cross_encoder_dir: Path):
    """Small enough that entries are thrown out all the time."""
    requests = [(query, _texts(12, seed=seed)) for seed in range(6) for query in (QUERY, "what is brca1")]
    options = {"device": "cpu", "dtype": "float32"}
    with (
        BioReranker(tiny_cross_encoder_dir, **options) as plain,
        BioReranker(tiny_cross_encoder_dir, **options, cache_bytes=40 * ENTRY_BYTES) as cached,
        ThreadPoolExecutor(8) as pool,
    ):
        alone = [{line.input_index: line.logit for line in plain.rank(*request)} for request in requests]
        for _ in range(5):
            for expected, got in zip(alone, pool.map(lambda request: cached.rank(*request), requests), strict=True):
                assert {line.input_index: line.logit for line in got} == pytest.approx(expected, abs=1e-4)
        info = cached.cache_info()
        assert info.entries <= 40
        assert info.hits + info.misses == 5 * 12 * 12


@pytest.mark.parametrize("value", [-1, 1.5, True, "1"])
def test_an_impossible_size_is_refused(value):
    with pytest.raises(ValueError, match="cache_bytes must be a whole number of at least 0"):
        BioReranker(cache_bytes=value)
