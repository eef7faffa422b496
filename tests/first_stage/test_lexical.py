"""BM25 against the formula, written out."""

from __future__ import annotations

import logging
import math
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage.analysis import terms
from biorerank_plugins.first_stage.lexical import LexicalIndex, passage_texts
from biorerank_plugins.first_stage.lexical_file import read_lexical, write_lexical
from biorerank_plugins.passages import Passage

TEXTS = [
    "IL-6 drives inflammation and inflammation drives IL-6.",
    "Aspirin inhibits platelets.",
    "Aspirin and heart failure: a trial of aspirin, not of statins.",
    "Nothing of the kind",
    "Aspirin inhibits platelets.",
    "…",
]
QUERIES = ["Does aspirin inhibit platelets?", "IL-6", "inflammation inflammation aspirin", "quokka", "of the", "…"]


def bm25(query: str, texts: Sequence[str], k1: float = 0.9, b: float = 0.4) -> list[float]:
    """Lucene's BM25 (Kamphuis et al. 2020), term by term."""
    split = [terms(text) for text in texts]
    mean = sum(map(len, split)) / len(split)
    scores = [0.0] * len(texts)
    for term in terms(query):
        n_with = sum(term in words for words in split)
        idf = math.log(1 + (len(texts) - n_with + 0.5) / (n_with + 0.5))
        for number, words in enumerate(split):
            tf = words.count(term)
            if tf:
                scores[number] += idf * tf / (tf + k1 * (1 - b + b * len(words) / mean))
    return scores


def best(scores: Sequence[float], k: int, allowed: Sequence[int] | None = None) -> list[int]:
    """The slow way; rounded, because equal texts must tie."""
    rows = [row for row in (range(len(scores)) if allowed is None else allowed) if scores[row] > 0]
    return sorted(rows, key=lambda row: (-round(scores[row], 5), row))[:k]


def rows_of(index: LexicalIndex, query: str, k: int = 10, allowed: Any = None) -> list[int]:
    return index.search_many([query], k, allowed)[0][1].tolist()


@pytest.mark.parametrize("query", QUERIES)
def test_scores_are_those_of_the_formula(query: str) -> None:
    index = LexicalIndex.build(enumerate(TEXTS))
    expected = bm25(query, TEXTS)
    assert index.match(query).of(np.arange(6)).tolist() == pytest.approx(expected, abs=1e-5)
    ((scores, rows),) = index.search_many([query], 10)
    assert rows.tolist() == best(expected, 10)
    assert scores.tolist() == pytest.approx([expected[row] for row in rows.tolist()], abs=1e-5)


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=6).map(" x".join), min_size=1, max_size=12),
    st.lists(st.sampled_from("abcdefgh"), max_size=4).map(" x".join),
    st.integers(1, 6),
    st.data(),
)
def test_the_best_are_those_of_a_plain_sort(texts: list[str], query: str, k: int, data: st.DataObject) -> None:
    index = LexicalIndex.build(enumerate(texts))
    allowed = sorted(data.draw(st.sets(st.integers(0, len(texts) - 1))))
    expected = bm25(query, texts) if any(map(terms, texts)) else [0.0] * len(texts)
    assert rows_of(index, query, k) == best(expected, k)
    assert rows_of(index, query, k, np.array(allowed, dtype=np.int64)) == best(expected, k, allowed)


def test_equal_scores_keep_the_order_of_rows_whatever_k_is() -> None:
    index = LexicalIndex.build((row, "aspirin") for row in range(50))
    for k in (1, 7, 49, 50, 99):
        assert rows_of(index, "aspirin", k) == list(range(min(k, 50)))


def assert_same(index: LexicalIndex, other: LexicalIndex) -> None:
    assert index.rows.tolist() == other.rows.tolist()
    for query in QUERIES:
        assert index.match(query).scores.tolist() == other.match(query).scores.tolist()


def test_an_index_that_was_changed_is_one_built_at_once() -> None:
    whole = LexicalIndex.build(enumerate(TEXTS))
    grown = LexicalIndex.build(enumerate(TEXTS[:2])).added([]).added((row, TEXTS[row]) for row in range(2, 6))
    assert_same(grown, whole)
    assert_same(whole.without(np.array([0, 3])), LexicalIndex.build((row, TEXTS[row]) for row in (1, 2, 4, 5)))
    again = whole.without(np.array([4, 5])).added([(7, "new IL-6"), (9, TEXTS[4])])
    assert_same(again, LexicalIndex.build([*enumerate(TEXTS[:4]), (7, "new IL-6"), (9, TEXTS[4])]))
    assert len(whole) == 6  # nobody changed it


def test_an_index_without_texts_or_without_words_finds_nothing() -> None:
    whole = LexicalIndex.build(enumerate(TEXTS))
    for index in (LexicalIndex.build([]), LexicalIndex.build([(0, "…"), (1, "the")]), whole.without(whole.rows)):
        assert [rows.tolist() for _, rows in index.search_many(QUERIES, 5)] == [[]] * len(QUERIES)
        assert_same(saved(index), index)


def test_titles_are_read_unless_the_encoder_omits_them() -> None:
    passages = [(3, Passage("a", "It suppresses tumours.", "TP53"))]
    assert list(passage_texts(passages, {"title": "join"})) == [(3, "TP53. It suppresses tumours.")]
    assert list(passage_texts(passages, {})) == [(3, "TP53. It suppresses tumours.")]
    assert list(passage_texts(passages, {"title": "omit"})) == [(3, "It suppresses tumours.")]


def saved(index: LexicalIndex) -> LexicalIndex:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lexical.npz"
        with path.open("wb") as file:
            write_lexical(index, file)
        return read_lexical(path, index.rows)


def test_what_was_saved_is_read_again_and_can_be_changed() -> None:
    index = LexicalIndex.build(enumerate(TEXTS)).without(np.array([1]))
    assert_same(saved(index), index)
    assert_same(saved(index).added([(8, TEXTS[1])]), index.added([(8, TEXTS[1])]))


def break_array(path: Path, name: str, change: Any) -> None:
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays[name] = change(arrays[name])
    with path.open("wb") as file:
        np.savez(file, **arrays)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("rows", lambda rows: rows + 1),
        ("rows", lambda rows: rows[:-1]),
        ("tokens", lambda tokens: tokens + 1000),
        ("tokens", lambda tokens: tokens.astype(np.float64)),
        ("tokens", lambda tokens: tokens.reshape(1, -1)),
        ("offsets", lambda offsets: offsets[::-1].copy()),
        ("terms", lambda terms: np.full_like(terms, ord("\n"))),
        ("terms", lambda terms: np.where(terms == ord("\n"), terms, ord("x")).astype(np.uint8)),
        ("terms", lambda terms: np.full_like(terms, 0xFF)),
        ("data", lambda data: data * np.nan),
        ("data", lambda data: data[:-1]),
        ("indices", lambda indices: indices - 5),
        ("indptr", lambda indptr: np.zeros_like(indptr)),
        ("tokens", lambda tokens: np.array([{}, None])),
        ("defined", lambda defined: np.full(7, ord("x"), dtype=np.uint8)),
        ("defined", lambda defined: np.array([{}, None])),
        ("defined_rows", lambda rows: np.array([0.5])),
        ("defined_rows", lambda rows: np.array([3])),
    ],
)
def test_a_file_that_does_not_fit_is_refused(name: str, change: Any, tmp_path: Path) -> None:
    index = LexicalIndex.build(enumerate(TEXTS))
    path = tmp_path / "lexical.npz"
    with path.open("wb") as file:
        write_lexical(index, file)
    break_array(path, name, change)
    with pytest.raises(PassageIndexError, match=r"lexical\.npz (does not fit|cannot be read)"):
        read_lexical(path, index.rows)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x80\x04pickle", b"text", b"\x93NUMPY"])
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "lexical.npz"
    path.write_bytes(content)
    with pytest.raises(PassageIndexError, match=r"lexical\.npz cannot be read"):
        read_lexical(path, np.arange(3))


def test_many_threads_may_be_the_first_to_search() -> None:
    index = LexicalIndex.build((row, f"word{row % 7} word{row % 11} aspirin") for row in range(300))
    expected = LexicalIndex.build((row, f"word{row % 7} word{row % 11} aspirin") for row in range(300))
    wanted = [expected.match(f"word{n} aspirin").scores.tolist() for n in range(8)]
    got: dict[int, list[float]] = {}
    threads = [
        threading.Thread(target=lambda n=n: got.update({n: index.match(f"word{n} aspirin").scores.tolist()}))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [got[n] for n in range(8)] == wanted


def test_nothing_is_printed_or_logged(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """bm25s opens its logger for everything, which would pass a root handler of any level."""
    caplog.set_level(logging.NOTSET, logger="bm25s")
    index = LexicalIndex.build(enumerate(TEXTS))
    index.search_many(QUERIES, 3)
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.name.startswith("bm25s")] == []
