"""An index by way of shards is the index that one machine builds at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.first_stage import WordEncoder, collection, exact_ranking

from biorerank_plugins import PassageIndex
from biorerank_plugins.errors import PassageIndexError, ShardError
from biorerank_plugins.scale import build_index

QUERIES = ["w1 w2 w3", "w17 w40", "w300", "w5 w6"]


def found(index: PassageIndex, first_stage: str, k: int = 20, **options) -> list[list[tuple[str, float]]]:
    answers = index.search_many(QUERIES, k, first_stage=first_stage, **options)
    return [[(one.passage.id, one.score) for one in answer] for answer in answers]


@pytest.mark.parametrize("first_stage", ["dense", "hybrid", "lexical"])
def test_flat_gives_the_same_ids_and_scores_bit_by_bit(tmp_path: Path, first_stage: str):
    passages, encoder = collection(300), WordEncoder()
    plain = PassageIndex.build(passages, encoder=encoder)
    sharded = build_index(passages, tmp_path / "out", encoder=encoder, shard_size=64)
    assert found(sharded, first_stage) == found(plain, first_stage)
    assert not (tmp_path / "out.work").exists()
    again = PassageIndex.load(tmp_path / "out", encoder=encoder)
    assert found(again, first_stage) == found(plain, first_stage)
    assert [passage.id for passage in again.passages()] == [passage.id for passage in passages]


@pytest.mark.parametrize("factory", ["HNSW8", "HNSW8_SQ8", "IVF4,Flat", "IVF4,PQ8", "IVF4,PQ8,Refine(SQ8)"])
@pytest.mark.parametrize("on_disk", [False, True])
def test_every_type_finds_nearly_what_is_exact_and_can_be_loaded(tmp_path: Path, factory: str, on_disk: bool):
    passages, encoder = collection(400), WordEncoder()
    options = {"encoder": encoder, "factory": factory, "shard_size": 64, "lexical": False, "lists_on_disk": on_disk}
    if on_disk and factory not in ("IVF4,Flat", "IVF4,PQ8"):
        with pytest.raises(PassageIndexError, match="no lists to keep on disk"):
            build_index(passages, tmp_path / "out", **options)
        return
    build_index(passages, tmp_path / "out", **options).close()
    index = PassageIndex.load(tmp_path / "out", encoder=encoder)
    share = {"IVF4,PQ8": 0.6}.get(factory, 0.9)
    for query in QUERIES:
        exact = set(exact_ranking(encoder, query, passages)[:20])
        got = [one.passage.id for one in index.search(query, 20)]
        assert len(got) == 20
        assert len(exact & set(got)) >= share * 20
    assert len(index.search(QUERIES[0], 10, filters={"year": 2003})) == 10


def test_lists_on_disk_are_read_from_there_moved_with_the_folder_and_not_changed(tmp_path: Path):
    passages, encoder = collection(300), WordEncoder()
    options = {"encoder": encoder, "factory": "IVF4,Flat", "lexical": False, "shard_size": 64}
    in_memory = build_index(passages, tmp_path / "a", **options)
    build_index(passages, tmp_path / "b", lists_on_disk=True, **options).close()
    (tmp_path / "b").rename(tmp_path / "moved")
    index = PassageIndex.load(tmp_path / "moved", encoder=encoder)
    assert found(index, "dense") == found(in_memory, "dense")
    version = next((tmp_path / "moved").glob("v*"))
    assert (version / "vectors.lists").stat().st_size > 4 * 16 * 300 > (version / "vectors.faiss").stat().st_size
    for change in (lambda: index.add(collection(1, start=900)), lambda: index.remove(["p1"])):
        with pytest.raises(PassageIndexError, match="on disk cannot be changed"):
            change()
    assert found(index, "dense") == found(in_memory, "dense")
    with (version / "vectors.lists").open("r+b") as file:  # in place: the open index has it mapped
        first = file.read(1)[0]
        file.seek(0)
        file.write(bytes([first ^ 1]))
    with pytest.raises(PassageIndexError, match=r"vectors\.lists was changed"):
        PassageIndex.load(tmp_path / "moved", encoder=encoder)


def test_what_was_embedded_is_not_embedded_again(tmp_path: Path):
    passages = collection(100)

    class Breaks(WordEncoder):
        def encode_passages(self, given):
            if self.n_encoded >= 60:
                raise MemoryError
            return super().encode_passages(given)

    with pytest.raises(MemoryError):
        build_index(passages, tmp_path / "out", encoder=Breaks(), shard_size=20)
    assert not (tmp_path / "out").exists()
    whole = WordEncoder()
    index = build_index(passages, tmp_path / "out", encoder=whole, shard_size=20)
    assert whole.n_encoded == 40
    assert found(index, "dense") == found(PassageIndex.build(passages, encoder=WordEncoder()), "dense")


def test_another_collection_or_encoder_does_not_go_on_with_foreign_shards(tmp_path: Path):
    class Breaks(WordEncoder):
        def encode_passages(self, given):
            if self.n_encoded:
                raise MemoryError
            return super().encode_passages(given)

    with pytest.raises(MemoryError):
        build_index(collection(100), tmp_path / "out", encoder=Breaks(), shard_size=20)
    with pytest.raises(ShardError, match="another input"):
        build_index(collection(100, start=7), tmp_path / "out", encoder=WordEncoder(), shard_size=20)
    with pytest.raises(ShardError, match="differs in: config, content_hash"):
        build_index(collection(100), tmp_path / "out", encoder=WordEncoder("b"), shard_size=20)


def test_duplicates_and_empty_collections_are_found_before_anything_is_embedded(tmp_path: Path):
    encoder, passages = WordEncoder(), collection(5)
    with pytest.raises(ValueError, match="'p1' at position 5"):
        build_index([*passages, passages[1]], tmp_path / "a", encoder=encoder)
    with pytest.raises(PassageIndexError, match="empty"):
        build_index([], tmp_path / "b", encoder=encoder)
    assert encoder.n_encoded == 0
    index = build_index([*passages, passages[1]], tmp_path / "c", encoder=encoder, on_duplicate="skip")
    assert len(index) == 5


def test_the_sample_is_no_part_of_the_beginning(tmp_path: Path):
    """A sorted collection: trained on its beginning, SQ8 would cut off whatever comes later."""

    class Growing(WordEncoder):
        def vector(self, text):
            return super().vector(text) * np.float32(1 + int(text.split()[0][1:]))

    from biorerank_plugins import Passage

    passages = [Passage(f"p{n}", f"w{n} x") for n in range(200)]
    index = build_index(passages, tmp_path / "o", encoder=Growing(), factory="HNSW8_SQ8", lexical=False, shard_size=10)
    best = index.search("w199 x", 1)[0]
    assert best.passage.id == "p199"
    assert best.score == pytest.approx(200.0**2, rel=0.05)
