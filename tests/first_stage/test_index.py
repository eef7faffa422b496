"""PassageIndex in memory, its vectors against slow references; the lexical side is in ``test_hybrid``."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from support.first_stage import FACTORIES, WordEncoder, collection, exact_ranking

from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage import PassageIndex
from biorerank_plugins.passages import Candidate, Passage

PASSAGES = collection(320)
QUERY = "w1 w2 w3 w4"


def ids(candidates: list[Candidate]) -> list[str]:
    return [candidate.passage.id for candidate in candidates]


def build(factory: str = "Flat", **options: object) -> PassageIndex:
    options = {"lexical": False, **options}
    return PassageIndex.build(PASSAGES, encoder=WordEncoder(), factory=factory, **options)  # type: ignore[arg-type]


def test_flat_search_is_the_exact_ranking_with_ties_in_insertion_order() -> None:
    index, encoder = build(), WordEncoder()
    for query in ("w1", QUERY, PASSAGES[18].text):
        assert ids(index.search(query, k=320)) == exact_ranking(encoder, query, PASSAGES)
        assert ids(index.search(query, k=19)) == exact_ranking(encoder, query, PASSAGES)[:19]


def test_a_candidate_has_the_passage_its_inner_product_and_its_rank() -> None:
    first, *_ = found = build().search(PASSAGES[7].text, k=3)
    assert first.passage == PASSAGES[7]
    assert dict(first.passage.metadata) == dict(PASSAGES[7].metadata)
    assert first.score == pytest.approx(1.0, abs=1e-6)
    assert isinstance(first.score, float)
    assert [candidate.rank for candidate in found] == [1, 2, 3]


@pytest.mark.parametrize("factory", FACTORIES)
def test_every_factory_gives_full_lists_of_the_right_passages(factory: str) -> None:
    index = build(factory)
    for k in (1, 10, 320, 5000):
        found = index.search(QUERY, k=k)
        assert len(set(ids(found))) == len(found) == min(k, 320)
    assert PASSAGES[5].id in ids(index.search(PASSAGES[5].text, k=15))


@pytest.mark.parametrize("factory", FACTORIES)
def test_filters_apply_before_top_k_also_after_changes(factory: str) -> None:
    index = build(factory)
    index.remove([f"p{number}" for number in range(0, 320, 3)])
    index.add(collection(30, start=320))
    allowed = {p.id for p in index.passages() if p.metadata["year"] >= 2020 and p.metadata["journal"] == "J3"}
    filters = {"year": {">=": 2020}, "journal": "J3"}
    assert len(allowed) > 5
    for k in (1, 5, len(allowed), 1000):
        found = index.search(QUERY, k=k, filters=filters)
        assert set(ids(found)) <= allowed
        assert len(found) == min(k, len(allowed))
    assert index.search(QUERY, filters={"year": 1900}) == []
    assert set(ids(index.search(QUERY, k=99, filters={"id": ["p0", "p1", "p320"]}))) == {"p1", "p320"}


def test_many_queries_give_what_each_gives_alone() -> None:
    index = build()
    queries = [p.text for p in PASSAGES[:45]]
    together = index.search_many(queries, k=12, filters={"year": {"<": 2015}})
    assert together == [index.search(query, k=12, filters={"year": {"<": 2015}}) for query in queries]
    assert index.search_many([], k=3) == []


def test_strings_and_candidates_are_passages_too() -> None:
    index = PassageIndex.build(iter(["one", Candidate(Passage("x", "two"), 0.5)]), encoder=WordEncoder())
    assert [p.id for p in index.passages()] == ["0", "x"]


@pytest.mark.parametrize("factory", FACTORIES)
def test_add_and_remove_change_what_is_found(factory: str) -> None:
    index = build(factory)
    fresh = Passage("new", "fresh words only", metadata={"year": 2030})
    assert index.add([fresh]) == 1
    assert index.search("fresh words only", k=1)[0].passage == fresh
    assert (len(index), "new" in index, index.get("new")) == (321, True, fresh)
    assert index.remove(["new", "p3", "new"]) == 2
    assert (len(index), "new" in index, index.get("p3")) == (319, False, None)
    assert not {"new", "p3"} & set(ids(index.search("fresh words only", k=400)))
    assert index.add([fresh]) == 1
    assert ids(index.search("fresh words only", k=1)) == ["new"]


def test_everything_can_be_removed_and_added_again() -> None:
    index = build()
    index.remove([p.id for p in PASSAGES])
    assert (len(index), index.search(QUERY)) == (0, [])
    index.add(PASSAGES[:20])
    assert ids(index.search(QUERY, k=20)) == exact_ranking(WordEncoder(), QUERY, PASSAGES[:20])


def test_a_collection_is_checked_before_the_first_passage_is_embedded() -> None:
    encoder = WordEncoder()
    with pytest.raises(ValueError, match="'p0' at position 320 is at position 0 already"):
        PassageIndex.build([*PASSAGES, PASSAGES[0]], encoder=encoder)
    with pytest.raises(ValueError, match=r"'empty' \(position 1, counted from 0\) has no text"):
        PassageIndex.build([PASSAGES[0], Passage("empty", " \n", title="a title")], encoder=encoder)
    with pytest.raises(PassageIndexError, match="at least 256 passages to be trained on, got 20"):
        PassageIndex.build(PASSAGES[:20], encoder=encoder, factory="IVF4,PQ4")
    assert encoder.n_encoded == 0


def test_duplicates_can_be_skipped_keeping_the_first() -> None:
    passages = [Passage("a", "first"), Passage("b", "other"), Passage("a", "second")]
    index = PassageIndex.build(passages, encoder=WordEncoder(), on_duplicate="skip")
    assert (len(index), index.get("a")) == (2, passages[0])
    assert index.add([Passage("b", "again"), Passage("c", "new")], on_duplicate="skip") == 1
    assert index.get("b") == passages[1]
    with pytest.raises(ValueError, match="'c' at position 0 is in the index already"):
        index.add([Passage("c", "again")])


@pytest.mark.parametrize("passages", [[], iter(()), [p for p in PASSAGES if False]])
def test_an_empty_collection_is_refused(passages: object) -> None:
    with pytest.raises(PassageIndexError, match="the collection is empty"):
        PassageIndex.build(passages, encoder=WordEncoder())  # type: ignore[arg-type]


@pytest.mark.parametrize("passages", ["one text", Passage("a", "b"), [3], [None]])
def test_what_is_no_passage_is_refused(passages: object) -> None:
    with pytest.raises(TypeError, match=r"passage|Passage"):
        PassageIndex.build(passages, encoder=WordEncoder())  # type: ignore[arg-type]


@pytest.mark.parametrize("k", [0, -1, True, 1.0, "3", None])
def test_k_must_be_a_positive_integer(k: object) -> None:
    with pytest.raises(ValueError, match="k must be"):
        build().search(QUERY, k=k)  # type: ignore[arg-type]


def test_arguments_are_checked_before_anything_happens() -> None:
    index = build()
    for query, error in (("", ValueError), (" ", ValueError), (None, TypeError), (["a"], TypeError)):
        with pytest.raises(error):
            index.search(query)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="list of queries"):
        index.search_many("a query")
    with pytest.raises(ValueError, match="Unknown operator"):
        index.search_many([], filters={"year": {"~": 1}})
    with pytest.raises(ValueError, match="batch_size"):
        index.add([], batch_size=0)
    with pytest.raises(ValueError, match="on_duplicate"):
        index.add([], on_duplicate="ignore")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="factory='flat' is not offered"):
        build("flat")
    with pytest.raises(ValueError, match="2 ids are not in the index: 'x', 'y'"):
        index.remove(["p1", "x", "y"])
    with pytest.raises(TypeError, match="list of ids"):
        index.remove("p1")
    assert "p1" in index
    assert index.remove(["p1", "x"], missing="skip") == 1


@pytest.mark.parametrize(
    ("metadata", "key"),
    [
        ({"ok": 1, "when": object()}, "key 'when'"),
        ({"x": float("nan")}, "key 'x' is nan"),
        ({"deep": {"y": [1.0, float("inf")]}}, "key 'deep'"),
        ({"x": {1, 2}}, "key 'x'"),
    ],
)
def test_metadata_that_is_no_json_is_refused_with_id_and_key(metadata: dict[str, object], key: str) -> None:
    with pytest.raises(ValueError, match=rf"metadata of passage 'a' cannot be stored as JSON \({key}\)"):
        PassageIndex.build([Passage("a", "text", metadata=metadata)], encoder=WordEncoder())


def test_unusual_text_comes_back_as_it_was() -> None:
    passages = [Passage("ä'\"; --", "α-synuclein\x00 🧬 \u2028 end", "\u202ctitle", {"Ж": ["x", {"y": None}]})]
    index = PassageIndex.build(passages, encoder=WordEncoder())
    assert index.search("x", k=1)[0].passage.to_dict() == passages[0].to_dict()
    assert index.get("ä'\"; --") == passages[0]
    with pytest.raises(ValueError, match="'b' holds text that is not valid Unicode"):
        index.add([Passage("b", "lone \ud800 surrogate")])


class BrokenEncoder(WordEncoder):
    def encode_passages(self, passages: list[Passage]) -> np.ndarray:
        vectors = super().encode_passages(passages)
        vectors[[p.id == "p3" for p in passages]] = np.nan
        return vectors

    def encode_queries(self, queries: list[str]) -> np.ndarray:
        return np.full((len(queries), self.dimension), np.inf, dtype=np.float32)


def test_vectors_that_are_not_finite_are_refused_with_the_ids() -> None:
    with pytest.raises(PassageIndexError, match="not finite for 1 passages: 'p3'"):
        PassageIndex.build(PASSAGES, encoder=BrokenEncoder())
    index = PassageIndex.build(PASSAGES[:3], encoder=BrokenEncoder())
    with pytest.raises(PassageIndexError, match="not finite for the query 'w1'"):
        index.search("w1")
    with pytest.raises(PassageIndexError, match="'p3'"):
        index.add(PASSAGES[3:])
    assert len(index) == 3


def test_an_encoder_of_the_wrong_shape_is_refused() -> None:
    class Wrong(WordEncoder):
        dimension = 17

        def _word(self, word: str) -> np.ndarray:
            return super()._word(word)[:16]

    with pytest.raises(PassageIndexError, match=r"shape \(2, 17\)|expected \(2, 17\)|shape"):
        wrong = Wrong()
        wrong.encode_passages = lambda passages: np.zeros((len(passages), 3))  # type: ignore[method-assign]
        PassageIndex.build(PASSAGES[:2], encoder=wrong)


def test_an_interrupted_addition_leaves_the_index_as_it_was() -> None:
    index = build()
    before = index.search(QUERY, k=400)

    def stream() -> Iterator[Passage]:
        yield from collection(50, start=1000)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.add(stream())
    assert index.search(QUERY, k=400) == before
    assert index.add(collection(5, start=1000)) == 5


def test_batch_size_does_not_change_the_index() -> None:
    assert build(batch_size=7).search(QUERY, k=50) == build().search(QUERY, k=50)


def test_a_closed_index_says_so() -> None:
    with build() as index:
        pass
    index.close()
    for use in (lambda: index.search("a"), lambda: len(index), lambda: index.add([]), lambda: index.get("p1")):
        with pytest.raises(PassageIndexError, match="was closed"):
            use()


def test_the_progress_bar_is_shown_only_when_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    build()
    assert capfd.readouterr().err == ""
    build("IVF4,PQ4", show_progress=True)
    assert "320/320" in capfd.readouterr().err


@pytest.mark.parametrize("factory", FACTORIES)
def test_many_threads_search_while_one_changes(factory: str) -> None:
    """Every search sees the index before or after a change, never in between."""
    index = build(factory)
    fixed = {p.id for p in PASSAGES}
    extra = collection(40, start=2000)
    errors: list[str] = []
    stop = threading.Event()

    def search() -> None:
        while not stop.is_set():
            found = set(ids(index.search(QUERY, k=1000)))
            n_extra = len(found - fixed)
            if not fixed <= found or n_extra not in (0, len(extra)):
                errors.append(f"{len(found)} found, {n_extra} of the additional ones")

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(6):
        index.add(extra)
        index.remove([p.id for p in extra])
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
