"""Long passages: where windows lie, how their logits become one, and what a reranker reports of them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.scorers import length

from biorerank_plugins import BioReranker, Passage
from biorerank_plugins.scoring.scores import PairScores, fold
from biorerank_plugins.text.windows import window_spans

QUERY = "which drug inhibits platelets"
FILLER = "the cells divide. "


def word_offsets(text: str) -> np.ndarray:
    found, at = [], 0
    for word in text.split(" "):
        found.append((at, at + len(word)))
        at += len(word) + 1
    return np.array(found, dtype=np.int64)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=30), st.integers(1, 25), st.integers(1, 40) | st.none())
def test_windows_hold_all_tokens_and_none_is_too_long(lengths: list[int], room: int, stride: int | None):
    text = " ".join(" ".join(["w"] * (n - 1) + ["w."]) for n in lengths)
    ends = np.cumsum(lengths)
    offsets = word_offsets(text)

    def sentences(_: str) -> list[tuple[int, int]]:
        return [(int(offsets[e - n, 0]), int(offsets[e - 1, 1])) for n, e in zip(lengths, ends, strict=True)]

    spans = window_spans(text, offsets, room, stride, sentences)
    if len(offsets) <= room:
        assert spans == [(0, len(text))]
        return
    held = [[n for n, (a, b) in enumerate(offsets) if a >= start and b <= end] for start, end in spans]
    assert all(1 <= len(tokens) <= room for tokens in held)
    assert set().union(*held) == set(range(len(offsets)))
    assert all(a[0] < b[0] for a, b in pairwise(spans))


def test_windows_begin_and_end_with_sentences():
    text = "a b c d. e f g h. i j k l. m n o p."
    spans = window_spans(text, word_offsets(text), 10, None, lambda _: [(0, 8), (9, 17), (18, 26), (27, 35)])
    assert [text[start:end] for start, end in spans] == ["a b c d. e f g h.", "i j k l. m n o p."]


@pytest.mark.parametrize(
    ("stride", "expected"),
    [
        (None, [(0, 8), (6, 14), (12, 20)]),  # three quarters of the room
        (4, [(0, 8), (4, 12), (8, 16), (12, 20)]),
        (8, [(0, 8), (8, 16), (16, 20)]),
        (100, [(0, 8), (8, 16), (16, 20)]),  # nothing is left out
    ],
)
def test_windows_begin_a_stride_apart_where_there_are_no_sentences(stride, expected):
    """By hand: twenty words, windows of eight."""
    text = " ".join("abcdefghijklmnopqrst")
    spans = window_spans(text, word_offsets(text), 8, stride, lambda whole: [(0, len(whole))])
    assert spans == [(2 * first, 2 * last - 1) for first, last in expected]


def scores(*logits: float) -> PairScores:
    n = len(logits)
    return PairScores(np.array(logits, np.float32), np.arange(n) == 1, np.zeros(n, bool))


@pytest.mark.parametrize(
    ("aggregation", "expected", "best"),
    [("max", [3.0, 5.0], [1, 0]), ("first", [1.0, 5.0], [0, 0]), ("mean-top-2", [2.5, 5.0], [1, 0])],
)
def test_logits_of_windows_become_one(aggregation, expected: list[float], best: list[int]):
    folded, won = fold(scores(1.0, 3.0, 2.0, 5.0), [3, 1], aggregation)
    assert folded.logits.tolist() == expected
    assert won == best
    assert folded.truncated.tolist() == [True, False]


def test_nothing_folds_to_nothing():
    folded, won = fold(scores(), [], "max")
    assert len(folded.logits) == 0
    assert won == []


@pytest.fixture
def folder(tiny_cross_encoder_dir: Path) -> Path:
    return tiny_cross_encoder_dir


def make(folder: Path, **options) -> BioReranker:
    return BioReranker(folder, device="cpu", dtype="float32", max_length=48, query_max_length=16, **options)


def long_text() -> str:
    return FILLER * 20 + "aspirin inhibits platelets. " + FILLER * 20


def test_a_long_passage_counts_as_its_best_window(folder: Path):
    reranker = make(folder)
    text = long_text()
    [ranked] = reranker.rank(QUERY, [text])
    assert ranked.n_windows > 3
    assert not ranked.truncated
    assert ranked.window is not None
    alone = reranker.rank(QUERY, [text[slice(*ranked.window)]])[0]
    assert alone.n_windows == 1
    assert alone.window is None
    assert alone.logit == pytest.approx(ranked.logit, abs=1e-5)


def test_no_other_window_is_better(folder: Path):
    text = long_text()
    best, first = (make(folder, windows=w).rank(QUERY, [text])[0].logit for w in ("max", "first"))
    beginning = make(folder, windows=False).rank(QUERY, [text])[0]
    assert best >= first
    assert beginning.truncated
    assert (beginning.n_windows, beginning.window) == (1, None)


def test_the_title_is_read_with_every_window(folder: Path):
    passage = Passage("1", long_text(), title="the heart")
    [ranked] = make(folder).rank(QUERY, [passage])
    assert ranked.window is not None
    same = Passage("1", passage.text[slice(*ranked.window)], title="the heart")
    assert make(folder).rank(QUERY, [same])[0].logit == pytest.approx(ranked.logit, abs=1e-5)


def test_short_passages_beside_a_long_one_keep_their_values(folder: Path):
    reranker = make(folder)
    short = ["insulin lowers glucose", "", "the heart"]
    alone = {r.input_index: r.logit for r in reranker.rank(QUERY, short)}
    together = {r.input_index: r for r in reranker.rank(QUERY, [*short, long_text()])}
    for number, logit in alone.items():
        assert together[number].logit == pytest.approx(logit, abs=1e-5)
        assert together[number].n_windows == 1
    assert together[3].n_windows > 1


def test_however_many_long_passages_there_are_each_is_cut(folder: Path):
    texts = [f"aspirin {number} " + FILLER * 8 for number in range(130)]
    ranking = make(folder).rank(QUERY, texts)
    assert min(ranked.n_windows for ranked in ranking) > 1
    assert not any(ranked.truncated for ranked in ranking)


@pytest.mark.parametrize(
    "text", ["a" * 20_000, "ab " * 20_000, "\u202e مرحبا. " * 400, "😀 e\u0301. " * 500, "가나다. " * 300]
)
def test_any_long_text_is_read(folder: Path, text: str):
    [ranked] = make(folder).rank(QUERY, [text], evidence=1)
    assert np.isfinite(ranked.logit)
    if ranked.window is not None:
        start, end = ranked.window
        assert 0 <= start < end <= len(text)
    for sentence in ranked.evidence:
        assert text[sentence.start : sentence.end] == sentence.text


def test_a_function_as_template_is_cut_where_the_text_stands(folder: Path):
    """Each window is read with what the function puts around it."""
    reranker = make(folder, template=lambda passage: f"insulin {passage.text} glucose")
    text = long_text()
    [ranked] = reranker.rank(QUERY, [text])
    assert ranked.window is not None
    assert ranked.n_windows > 1
    [alone] = reranker.rank(QUERY, [text[slice(*ranked.window)]])
    assert (alone.n_windows, alone.logit) == (1, pytest.approx(ranked.logit, abs=1e-5))


def test_a_function_may_write_much_about_a_passage_without_text(folder: Path):
    """There is no text of the passage's own in it, so that all of it is cut."""
    [ranked] = make(folder, template=lambda passage: long_text()).rank(QUERY, [Passage("1", "")])
    [whole] = make(folder).rank(QUERY, [long_text()])
    assert (ranked.n_windows, ranked.logit) == (whole.n_windows, pytest.approx(whole.logit, abs=1e-5))


def test_a_scorer_without_tokens_reads_passages_as_they_come():
    [ranked] = BioReranker(length()).rank(QUERY, [long_text()])
    assert (ranked.logit, ranked.n_windows) == (len(long_text()), 1)


@pytest.mark.parametrize("windows", ["best", None, 2])
def test_unknown_windows_are_refused(folder: Path, windows):
    with pytest.raises(ValueError, match="windows="):
        make(folder, windows=windows)


def test_windows_are_as_long_as_asked_for(folder: Path):
    text = "insulin lowers glucose aspirin inhibits platelets " * 40
    counts = [make(folder, window_length=n).rank(QUERY, [text])[0].n_windows for n in (8, 16, None)]
    assert counts[0] > counts[1] > counts[2] > 1
    [ranked] = make(folder, window_length=8).rank(QUERY, [text])
    assert ranked.window is not None
    assert len(text[slice(*ranked.window)].split()) <= 8


@pytest.mark.parametrize("length", [0, 7, 1.5, True])
def test_an_impossible_length_is_refused(folder: Path, length):
    with pytest.raises(ValueError, match="window_length"):
        make(folder, window_length=length)


@pytest.mark.parametrize("stride", [0, -1, 1.5, True])
def test_an_impossible_stride_is_refused(folder: Path, stride):
    with pytest.raises(ValueError, match="window_stride"):
        make(folder, window_stride=stride)
