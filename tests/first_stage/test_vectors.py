"""The FAISS wrapper, against NumPy."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from support.first_stage import FACTORIES

from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage.factory import parse_factory
from biorerank_plugins.first_stage.vectors import VectorStore, read_vectors

RNG = np.random.default_rng(3)


def unit(count: int, dimension: int = 16) -> np.ndarray:
    vectors = RNG.standard_normal((count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def store_of(factory: str, vectors: np.ndarray, rows: np.ndarray | None = None) -> VectorStore:
    rows = np.arange(len(vectors)) if rows is None else rows
    store = VectorStore.empty(parse_factory(factory), vectors.shape[1], vectors)
    store.reserve(len(vectors))
    half = len(rows) // 2
    store.add(rows, iter([(rows[:half], vectors[:half]), (rows[half:], vectors[half:])]))
    return store


@pytest.mark.parametrize("factory", ["Flat", "HNSW8", "IVF4,Flat"])
def test_a_stored_vector_finds_itself_with_score_one(factory: str) -> None:
    vectors, rows = unit(300), np.arange(300) * 3 + 7
    for (scores, found), row in zip(store_of(factory, vectors, rows).search(vectors[:20], 1), rows[:20], strict=True):
        assert found.tolist() == [row]
        assert scores[0] == pytest.approx(1.0, abs=1e-6)


@cache
def thinned(factory: str) -> VectorStore:
    """Of 400 vectors every fourth was removed; tests only search in it."""
    store = store_of(factory, unit(400))
    store.remove(np.arange(0, 400, 4))
    return store


@cache
def large(factory: str) -> VectorStore:
    return store_of(factory, unit(3000))


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("n_allowed", [0, 1, 5, 40, 299, 300])
@pytest.mark.parametrize("k", [1, 7, 300, 1000])
def test_a_filtered_search_returns_min_of_k_and_allowed(factory: str, n_allowed: int, k: int) -> None:
    """… also after removals, for every factory offered, best first."""
    store = thinned(factory)
    left = np.setdiff1d(np.arange(400), np.arange(0, 400, 4))
    allowed = np.sort(RNG.choice(left, n_allowed, replace=False))
    for scores, rows in store.search(unit(3), k, allowed):
        assert len(rows) == len(set(rows.tolist())) == min(k, n_allowed)
        assert set(rows.tolist()) <= set(allowed.tolist())
        assert (np.diff(scores) <= 0).all()
    assert [len(rows) for _, rows in store.search(unit(2), k)] == [min(k, 300)] * 2


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("share", [0.03, 0.6])
def test_filters_hold_on_collections_that_approximate_search_is_for(
    factory: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the exact path for small results switched off, the approximate one still returns full lists."""
    monkeypatch.setattr("biorerank_plugins.first_stage.vectors._FEW", 0)
    monkeypatch.setattr("biorerank_plugins.first_stage.vectors._SELECTIVE", 0.0)
    store = large(factory)
    allowed = np.flatnonzero(RNG.random(3000) < share)
    for k in (10, len(allowed)):
        assert [len(rows) for _, rows in store.search(unit(4), k, allowed)] == [k] * 4


@pytest.mark.parametrize("factory", ["Flat", "HNSW8", "IVF4,Flat"])
def test_selective_filters_give_exact_scores(factory: str) -> None:
    vectors, queries = unit(500), unit(5)
    allowed = np.sort(RNG.choice(500, 60, replace=False))
    for query, (scores, rows) in zip(queries, store_of(factory, vectors).search(queries, 10, allowed), strict=True):
        products = vectors[allowed] @ query
        best = np.argsort(-products)[:10]
        assert rows.tolist() == allowed[best].tolist()
        assert scores == pytest.approx(products[best], abs=1e-6)


@pytest.mark.parametrize("factory", ["Flat", "HNSW8", "IVF4,Flat"])
@pytest.mark.parametrize("k", [1, 5, 50])
def test_equal_vectors_come_in_order_of_rows(factory: str, k: int) -> None:
    vectors = unit(300)
    vectors[100:200] = vectors[0]
    expected = [0, *range(100, 200)][:k]
    results = store_of(factory, vectors).search(np.repeat(vectors[:1], 30, axis=0), k)
    assert [found.tolist() for _, found in results] == [expected] * 30


@pytest.mark.parametrize("factory", FACTORIES)
def test_removed_vectors_are_never_found_and_rows_stay(factory: str) -> None:
    vectors = unit(400)
    store = store_of(factory, vectors)
    alive = set(range(400))
    for gone in (np.array([3]), np.arange(10, 60), np.arange(200, 399)):
        store.remove(gone)
        alive -= set(gone.tolist())
        assert len(store) == len(alive)
        found = {int(row) for _, rows in store.search(vectors[:40], 400) for row in rows}
        assert found == alive
    store.add(np.arange(400, 420), iter([(np.arange(400, 420), unit(20))]))
    assert store.next_row == 420
    assert {int(row) for row in store.search(vectors[:1], 999)[0][1]} == alive | set(range(400, 420))
    store.remove(np.array(sorted(alive | set(range(400, 420)))))
    assert len(store) == 0
    assert store.search(vectors[:1], 5)[0][1].tolist() == []


def test_hnsw_is_built_anew_when_many_vectors_are_dead() -> None:
    store = store_of("HNSW8", unit(100))
    store.remove(np.arange(20))
    assert store.dead_rows.tolist() == list(range(20))
    store.remove(np.arange(20, 40))
    assert store.dead_rows.tolist() == []
    assert len(store) == 60


@pytest.mark.parametrize("factory", FACTORIES)
def test_an_addition_that_fails_half_way_leaves_nothing(factory: str) -> None:
    vectors = unit(300)
    store = store_of(factory, vectors)
    rows = np.arange(300, 320)

    def batches() -> object:
        yield rows[:10], unit(10)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.add(rows, batches())
    assert len(store) == 300
    assert max(int(row) for row in store.search(vectors[:1], 1000)[0][1]) < 300
    fresh = np.arange(store.next_row, store.next_row + 5)
    store.add(fresh, iter([(fresh, unit(5))]))
    assert len(store.search(vectors[:1], 1000)[0][1]) == 305


@pytest.mark.parametrize("factory", FACTORIES)
def test_written_and_read_again_gives_the_same_results(factory: str, tmp_path: Path) -> None:
    vectors = unit(300)
    store = store_of(factory, vectors)
    store.remove(np.arange(5))
    path = tmp_path / "vectors.faiss"
    with path.open("wb") as file:
        store.write(file)
    rows = np.setdiff1d(np.arange(300), []) if len(store.dead_rows) else np.arange(5, 300)
    again = read_vectors(path, parse_factory(factory), 16, rows, store.dead_rows)
    for (scores, found), (other_scores, other) in zip(
        store.search(vectors[:9], 20), again.search(vectors[:9], 20), strict=True
    ):
        assert found.tolist() == other.tolist()
        assert scores.tolist() == other_scores.tolist()
    for wrong in ({"factory": parse_factory("IVF5,Flat")}, {"dimension": 8}, {"rows": np.arange(9)}):
        arguments = {"factory": parse_factory(factory), "dimension": 16, "rows": rows, "dead": store.dead_rows} | wrong
        with pytest.raises(PassageIndexError, match=r"vectors\.faiss"):
            read_vectors(path, **arguments)


def test_errors_while_writing_come_through() -> None:
    class Full(BytesIO):
        def write(self, _: object) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        store_of("Flat", unit(10)).write(Full())


@pytest.mark.parametrize(
    "text",
    ["", "flat", "HNSW", "HNSW0", "HNSW1", "IVF0,Flat", "IVF4", "IVF4,PQ0", "PQ8", "OPQ4,IVF4,PQ4", "Flat ", 3, None],
)
def test_a_factory_that_is_not_offered_is_refused_with_the_list(text: object) -> None:
    with pytest.raises(ValueError, match="Choose one of: Flat, HNSW"):
        parse_factory(text)  # type: ignore[arg-type]


def test_too_few_vectors_and_uncuttable_dimensions_are_explained() -> None:
    with pytest.raises(PassageIndexError, match="at least 256 passages to be trained on, got 255"):
        parse_factory("IVF4,PQ4").check(255, 16)
    with pytest.raises(PassageIndexError, match="at least 300"):
        parse_factory("IVF300,Flat").check(299, 16)
    with pytest.raises(PassageIndexError, match="no multiple of 5"):
        parse_factory("IVF4,PQ5").check(1000, 16)
