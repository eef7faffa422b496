"""PassageIndex with both sides, against the two sides searched one by one."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
from support.first_stage import FACTORIES, WordEncoder, collection

from biorerank_plugins.errors import ModelError, PassageIndexError
from biorerank_plugins.first_stage import BiEncoder, Hybrid, PassageIndex
from biorerank_plugins.first_stage.lexical import LexicalIndex
from biorerank_plugins.first_stage.verification import LEXICAL_FILE
from biorerank_plugins.passages import Candidate, Passage
from biorerank_plugins.text.templates import passage_text

PASSAGES = collection(320)
QUERY = f"{PASSAGES[5].text} {PASSAGES[77].text.split()[0]} w1"
FUSIONS = [Hybrid(depth=20), Hybrid("weighted", 0.4, depth=20)]


def ids(candidates: list[Candidate]) -> list[str]:
    return [candidate.passage.id for candidate in candidates]


def build(factory: str = "Flat", **options: object) -> PassageIndex:
    return PassageIndex.build(PASSAGES, encoder=WordEncoder(), factory=factory, **options)  # type: ignore[arg-type]


def expected(index: PassageIndex, query: str, k: int, allowed: set[str] | None = None) -> list[tuple[str, float]]:
    """Fuse by hand what an exhaustive search of each side gives."""
    order = {passage.id: number for number, passage in enumerate(index.passages())}
    sides = [
        [
            (candidate.passage.id, candidate.score or 0.0)
            for candidate in index.search(query, 1000, first_stage=side)
            if allowed is None or candidate.passage.id in allowed
        ]
        for side in ("dense", "lexical")
    ]
    depth = max(k, index.hybrid.depth)
    cut = [side[:depth] for side in sides]
    found = {id_ for side in cut for id_, _ in side}
    if index.hybrid.method == "rrf":
        ranks = [{id_: rank for rank, (id_, _) in enumerate(side, start=1)} for side in cut]
        fused = {id_: sum(1 / (60 + rank[id_]) for rank in ranks if id_ in rank) for id_ in found}
    else:
        dense, lexical = dict(sides[0]), dict(sides[1])
        best = max(lexical.values(), default=1.0)
        weight = index.hybrid.lexical_weight or 0.0
        fused = {id_: dense[id_] + weight * lexical.get(id_, 0.0) / best for id_ in found}
    ranked = sorted(fused, key=lambda id_: (-round(fused[id_], 6), order[id_]))[:k]
    return [(id_, fused[id_]) for id_ in ranked]


def assert_fused(index: PassageIndex, query: str, k: int, allowed: set[str] | None = None, **options: object) -> None:
    found = index.search(query, k, **options)  # type: ignore[arg-type]
    wanted = expected(index, query, k, allowed)
    assert ids(found) == [id_ for id_, _ in wanted]
    assert [candidate.score for candidate in found] == pytest.approx([score for _, score in wanted], abs=1e-5)
    assert [candidate.rank for candidate in found] == list(range(1, len(found) + 1))


@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda fusion: fusion.method)
def test_the_hybrid_is_both_sides_fused(fusion: Hybrid) -> None:
    index = build()
    index.hybrid = fusion
    for k in (1, 10, 25, 1000):
        assert_fused(index, QUERY, k)
    assert_fused(index, "unknownword", 10)
    assert index.search(QUERY, 7) == index.search(QUERY, 7, first_stage="hybrid")


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda fusion: fusion.method)
def test_both_sides_stay_in_step_through_changes_and_filters(factory: str, fusion: Hybrid) -> None:
    index = build(factory)
    index.hybrid = fusion
    index.remove([f"p{number}" for number in range(0, 320, 3)])
    index.add([Passage("new", f"{QUERY} {QUERY}", metadata={"year": 2030})])
    exhaustive = not factory.startswith(("HNSW", "IVF"))
    if exhaustive:
        assert_fused(index, QUERY, 15)
    assert index.search(QUERY, 1)[0].passage.id == "new"
    assert index.search("title 320", 1000, first_stage="lexical") != []
    filters = {"year": {">=": 2020}, "journal": "J3"}
    allowed = {p.id for p in index.passages() if p.metadata["year"] >= 2020 and p.metadata.get("journal") == "J3"}
    for k in (1, 5, len(allowed), 1000):
        found = index.search(QUERY, k, filters)
        assert set(ids(found)) <= allowed
        assert len(found) == min(k, len(allowed))
        assert_fused(index, QUERY, k, allowed, filters=filters)  # few are allowed: every factory is exact
    assert index.search(QUERY, filters={"year": 1900}) == []


def test_the_lexical_side_alone_is_bm25_over_titles_and_texts() -> None:
    index = build()
    lexical = LexicalIndex.build(enumerate(map(passage_text, PASSAGES)))
    ((scores, rows),) = lexical.search_many([QUERY], 12)
    found = index.search(QUERY, 12, first_stage="lexical")
    assert ids(found) == [f"p{row}" for row in rows.tolist()]
    assert [candidate.score for candidate in found] == scores.tolist()
    assert ids(index.search("title 317", 1, first_stage="lexical")) == ["p317"]
    assert index.search("nowhere", first_stage="lexical") == []


def test_the_lexical_side_needs_no_vector_of_the_query() -> None:
    index = build()
    index.encoder.encode_queries = None  # type: ignore[method-assign, assignment]
    assert index.search(QUERY, first_stage="lexical")


@pytest.mark.parametrize("first_stage", ["hybrid", "lexical", "dense", None])
def test_many_queries_give_what_each_gives_alone(first_stage: str | None) -> None:
    index = build()
    index.hybrid = Hybrid("weighted", 0.4)
    queries = [p.text for p in PASSAGES[:37]]
    together = index.search_many(queries, 12, {"year": {"<": 2015}}, first_stage)  # type: ignore[arg-type]
    alone = [index.search(q, 12, {"year": {"<": 2015}}, first_stage) for q in queries]  # type: ignore[arg-type]
    assert together == alone
    assert index.search_many([], first_stage=first_stage) == []  # type: ignore[arg-type]


def test_equal_passages_come_in_insertion_order() -> None:
    index = PassageIndex.build(["same words"] * 30, encoder=WordEncoder())
    for fusion in FUSIONS:
        index.hybrid = fusion
        assert ids(index.search("same words", 30)) == [str(number) for number in range(30)]


def test_an_index_without_a_lexical_part_is_dense() -> None:
    index = build(lexical=False)
    assert (index.lexical, build().lexical) == (False, True)
    assert (
        index.search(QUERY, 9)
        == index.search(QUERY, 9, first_stage="dense")
        == build().search(QUERY, 9, first_stage="dense")
    )
    for wanted in ("hybrid", "lexical"):
        with pytest.raises(PassageIndexError, match=f"first_stage='{wanted}' needs a lexical part"):
            index.search_many([], first_stage=wanted)  # type: ignore[arg-type]
    for wrong in ("bm25", "", 0, False):
        with pytest.raises(ValueError, match=r"is unknown\. Choose 'hybrid', 'dense' or 'lexical'"):
            build().search(QUERY, first_stage=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="hybrid must be a Hybrid, got str"):
        index.hybrid = "rrf"  # type: ignore[assignment]


# Saved


def load(folder: Path) -> PassageIndex:
    return PassageIndex.load(folder, encoder=WordEncoder())


def version_of(folder: Path) -> Path:
    return folder / json.loads((folder / "CURRENT").read_text())["version"]


def test_a_saved_index_answers_as_before_and_nothing_is_built_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="biorerank_plugins")
    index = build()
    index.remove(["p3"])
    index.save(tmp_path / "index")
    index.add(collection(5, start=1000))
    with load(tmp_path / "index") as again:
        for side in ("hybrid", "lexical", "dense"):
            assert again.search(QUERY, 400, first_stage=side) == index.search(QUERY, 400, first_stage=side)
        again.remove(["p5", "p1003"])
    with load(tmp_path / "index") as once_more:
        kept = [p for p in [*PASSAGES, *collection(5, start=1000)] if p.id not in {"p3", "p5", "p1003"}]
        fresh = PassageIndex.build(kept, encoder=WordEncoder())
        assert once_more.search(QUERY, 400, first_stage="lexical") == fresh.search(QUERY, 400, first_stage="lexical")
    assert "Building the lexical part" not in caplog.text


def rewrite_manifest(folder: Path, **changes: object) -> None:
    """Make it the manifest of another release; ``...`` leaves a key out."""
    import hashlib

    path = version_of(folder) / "manifest.json"
    manifest = {**json.loads(path.read_text()), **changes}
    raw = json.dumps({key: value for key, value in manifest.items() if value is not ...}).encode()
    path.write_bytes(raw)
    current = {"version": version_of(folder).name, "manifest_sha256": hashlib.sha256(raw).hexdigest()}
    (folder / "CURRENT").write_text(json.dumps(current))


def test_an_index_of_the_first_format_gets_its_lexical_part_from_its_passages(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="biorerank_plugins")
    index = build()
    index.remove(["p3"])
    wanted = index.search(QUERY, 30)
    index.save(tmp_path / "index")
    (version_of(tmp_path / "index") / LEXICAL_FILE).unlink()
    rewrite_manifest(tmp_path / "index", format_version=1, lexical=...)
    with load(tmp_path / "index") as old:
        assert "Building the lexical part" in caplog.text
        assert old.search(QUERY, 30) == wanted
        old.remove(["p4"])
    assert (version_of(tmp_path / "index") / LEXICAL_FILE).is_file()
    assert load(tmp_path / "index").lexical


def test_a_lexical_part_of_another_stemmer_is_built_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="biorerank_plugins")
    index = build()
    index.save(tmp_path / "index")
    rewrite_manifest(tmp_path / "index", lexical={"method": "bm25", "stemmer": "0.1"})
    assert load(tmp_path / "index").search(QUERY, 30) == index.search(QUERY, 30)
    assert "Building the lexical part" in caplog.text


def test_an_index_without_a_lexical_part_is_saved_without_one(tmp_path: Path) -> None:
    build(lexical=False).save(tmp_path / "index")
    assert not (version_of(tmp_path / "index") / LEXICAL_FILE).exists()
    with load(tmp_path / "index") as index:
        assert not index.lexical
        index.add(collection(2, start=1000))
        assert not index.lexical
    assert not load(tmp_path / "index").lexical


# What is stored with the bi-encoder


def test_the_fusion_stored_with_the_bi_encoder_is_the_default(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_encoder_dir, folder)

    def hybrid() -> tuple[Hybrid, Hybrid | None]:
        encoder = BiEncoder(folder, device="cpu", dtype="float32")
        index = PassageIndex.build(["p53 suppresses tumours", "aspirin"], encoder=encoder)
        return index.hybrid, index.stored_hybrid

    assert hybrid() == (Hybrid("rrf"), None)
    for text in ("{}", '{"fusion": {}}'):
        (folder / "biorerank.json").write_text(text)
        assert hybrid() == (Hybrid("rrf"), None)
    (folder / "biorerank.json").write_text('{"hybrid": {"method": "weighted", "lexical_weight": 0.3}}')
    assert hybrid() == (Hybrid("weighted", 0.3), Hybrid("weighted", 0.3))
    for damaged in ("[]", "{", '{"hybrid": 3}', '{"hybrid": {"method": "x"}}', '{"hybrid": {"lexical_weight": "y"}}'):
        (folder / "biorerank.json").write_text(damaged)
        with pytest.raises(ModelError, match=r"biorerank\.json"):
            hybrid()


@pytest.mark.parametrize("factory", ["Flat", "HNSW8"])
def test_many_threads_search_while_one_changes(factory: str) -> None:
    """Every search sees the index before or after a change, never in between."""
    index = build(factory)
    fixed = {p.id for p in PASSAGES}
    extra = collection(40, start=2000)
    errors: list[str] = []
    stop = threading.Event()

    def search() -> None:
        while not stop.is_set():
            n_extra = len(set(ids(index.search(QUERY, k=1000))) - fixed)
            n_words = len(index.search("title 2007", k=1000, first_stage="lexical"))
            if n_extra not in (0, len(extra)) or n_words not in (320, 360):
                errors.append(f"{n_extra} of the additional ones, {n_words} have the word title")

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(4):
        index.add(extra)
        index.remove([p.id for p in extra])
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
