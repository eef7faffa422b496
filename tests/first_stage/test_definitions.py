"""What is asked by an abbreviation is found in passages that only have the long form, and the other way round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.first_stage import WordEncoder

from biorerank_plugins import Passage, PassageIndex
from biorerank_plugins.first_stage import embedding, lexical
from biorerank_plugins.first_stage.definitions import Definitions
from biorerank_plugins.first_stage.lexical import LexicalIndex
from biorerank_plugins.scale import ShardedIndex

PASSAGES = [
    Passage("defined", "Patients with neuromyelitis optica (NMO) relapse."),
    Passage("long", "Rituximab treats neuromyelitis optica."),
    Passage("short", "Eculizumab and NMO: a trial."),
    *(Passage(f"other{n}", f"Aspirin inhibits platelets, trial {n}.") for n in range(20)),
]


def found(index: PassageIndex | ShardedIndex, query: str, first_stage: str) -> list[tuple[str, float]]:
    return [(one.passage.id, one.score) for one in index.search(query, 5, first_stage=first_stage)]


def index_of(passages: list[Passage]) -> PassageIndex:
    return PassageIndex.build(passages, encoder=WordEncoder())


@pytest.mark.parametrize("query", ["NMO", "neuromyelitis optica"])
def test_both_forms_are_found_by_either(query: str) -> None:
    with index_of(PASSAGES) as index:
        assert {id_ for id_, _ in found(index, query, "lexical")} == {"defined", "long", "short"}
    with index_of(PASSAGES[1:]) as index:  # where nothing is defined
        assert len(found(index, query, "lexical")) == 1


def test_terms_of_other_forms_count_a_tenth_and_vectors_are_means() -> None:
    texts = [passage.text for passage in PASSAGES]
    words = LexicalIndex.build(enumerate(texts))
    with index_of(PASSAGES) as index:
        expected = words.match("NMO").scores + 0.1 * words.match("neuromyelitis optica").scores
        assert lexical.OTHER_FORMS_WEIGHT == 0.1
        assert dict(found(index, "NMO", "lexical")) == pytest.approx(
            {PASSAGES[n].id: expected[n] for n in range(len(PASSAGES)) if expected[n] > 0}
        )
    encoder = WordEncoder()
    plain, more = encoder.encode_queries(["NMO", "NMO neuromyelitis optica"])
    mean = (plain + more) / 2
    vectors = embedding.embed_queries(["aspirin", "NMO"], encoder, ["", "neuromyelitis optica"])
    assert vectors[0] == pytest.approx(encoder.encode_queries(["aspirin"])[0])
    assert vectors[1] == pytest.approx(mean / np.linalg.norm(mean) * np.linalg.norm(plain), abs=1e-6)
    assert embedding.OTHER_FORMS_SHARE == 0.5


def test_they_live_as_long_as_their_passage_in_memory_and_in_a_folder(tmp_path: Path) -> None:
    with index_of(PASSAGES[1:]) as index:
        index.save(tmp_path / "index")
        assert len(found(index, "NMO", "lexical")) == 1
        index.add([PASSAGES[0]])
        assert len(found(index, "NMO", "lexical")) == 3
    with PassageIndex.load(tmp_path / "index", encoder=WordEncoder()) as index:
        assert index.definitions.pairs == [("NMO", "neuromyelitis optica")]
        assert len(found(index, "NMO", "lexical")) == 3
        index.remove(["defined"])
        assert len(found(index, "NMO", "lexical")) == 1


@pytest.mark.parametrize("first_stage", ["lexical", "dense", "hybrid"])
def test_shards_know_what_one_of_them_defines(tmp_path: Path, first_stage: str) -> None:
    with (
        ShardedIndex.build(PASSAGES, tmp_path / "shards", shards=3, encoder=WordEncoder()) as shards,
        index_of(PASSAGES) as one,
    ):
        for query in ("NMO", "Is neuromyelitis optica treated?"):
            ours, theirs = found(shards, query, first_stage), found(one, query, first_stage)
            assert [id_ for id_, _ in ours] == [id_ for id_, _ in theirs]
            assert [score for _, score in ours] == pytest.approx([score for _, score in theirs], abs=1e-5)


def test_an_index_of_an_earlier_release_has_none() -> None:
    arrays = LexicalIndex.build(enumerate(passage.text for passage in PASSAGES)).to_arrays()
    del arrays["defined"], arrays["defined_rows"]
    index = LexicalIndex.from_arrays(arrays)
    assert index.definitions.pairs == []
    assert len(index.search_many(["NMO"], 5)[0][1]) == 2


@pytest.mark.parametrize(
    ("rows", "text"),
    [([0], b""), ([], b"NMO\tneuromyelitis optica"), ([0], b"NMO"), ([0], b"\xff\t"), ([3, 1], b"A\tb\nC\td")],
)
def test_damaged_ones_are_refused(rows: list[int], text: bytes) -> None:
    damaged = {"defined_rows": np.array(rows, dtype=np.int64), "defined": np.frombuffer(text, dtype=np.uint8)}
    with pytest.raises(ValueError):
        Definitions.from_arrays(damaged)
