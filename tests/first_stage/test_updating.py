"""Updates of an index: the last word on an id counts, in one durable change."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from biorerank_plugins import BiEncoder, Passage, PassageIndex
from biorerank_plugins.passages import Deletion
from biorerank_plugins.readers import read_passages, read_updates


@pytest.fixture(scope="module")
def encoder(tiny_encoder_dir: Path) -> BiEncoder:
    return BiEncoder(tiny_encoder_dir, device="cpu", dtype="float32")


def passage(id_: str, text: str, **metadata: Any) -> Passage:
    return Passage(id_, text, metadata=metadata)


BEFORE = [
    passage("1", "aspirin inhibits platelets", version=1, retracted=False),
    passage("2", "insulin lowers glucose", version=2, retracted=False),
    passage("3", "the heart", version=1, retracted=False),
    passage("4", "cells divide", version=1, retracted=False),
]
CHANGES = [
    passage("1", "aspirin inhibits platelets", version=1, retracted=True),  # retracted
    passage("2", "glucose is lowered by insulin", version=1, retracted=False),  # older
    passage("4", "cells divide", version=1, retracted=False),  # unchanged
    Deletion("3"),
    Deletion("99"),  # unknown
    passage("5", "tumour growth", retracted=False),  # added
    passage("6", "kidney", version=1),
    Deletion("6"),  # deleted before it was ever there
    Deletion("7"),
    passage("7", "liver", version=1),  # comes back
]
AFTER = {
    "1": ("aspirin inhibits platelets", True),
    "2": ("insulin lowers glucose", False),
    "4": ("cells divide", False),
    "5": ("tumour growth", False),
    "7": ("liver", None),
}
REPORT = {"added": 2, "replaced": 1, "removed": 1, "retracted": 1, "unchanged": 1, "older": 1, "unknown": 2}


def content(index: PassageIndex) -> dict[str, tuple[str, Any]]:
    return {one.id: (one.text, one.metadata.get("retracted")) for one in index.passages()}


@pytest.mark.parametrize("factory", ["Flat", "HNSW8"])
def test_an_update_in_memory_and_in_a_folder(encoder: BiEncoder, tmp_path: Path, factory: str):
    index = PassageIndex.build(BEFORE, encoder=encoder, factory=factory)
    assert index.update(CHANGES).to_dict() == REPORT
    assert content(index) == AFTER
    saved = PassageIndex.build(BEFORE, encoder=encoder, factory=factory)
    saved.save(tmp_path / "ix")
    saved.update(CHANGES)
    opened = PassageIndex.load(tmp_path / "ix", encoder=encoder)
    assert content(opened) == AFTER
    fresh = PassageIndex.build([passage(id_, text) for id_, (text, _) in AFTER.items()], encoder=encoder)
    for query in ("what lowers glucose", "tumour", "the heart"):
        for stage in ("lexical", "dense", "hybrid"):
            expected = {c.passage.id: c.score for c in fresh.search(query, 5, first_stage=stage)}
            found = {c.passage.id: c.score for c in opened.search(query, 5, first_stage=stage)}
            assert found == pytest.approx(expected, abs=1e-5)


def test_again_changes_nothing_but_what_is_older(encoder: BiEncoder):
    index = PassageIndex.build(BEFORE, encoder=encoder)
    index.update(CHANGES)
    again = index.update(CHANGES)
    assert (again.added, again.replaced, again.removed, again.unchanged) == (0, 0, 0, 4)
    assert content(index) == AFTER
    assert index.update([]).to_dict() == dict.fromkeys(REPORT, 0)


def test_only_deletions_and_all_of_them(encoder: BiEncoder):
    index = PassageIndex.build(BEFORE, encoder=encoder)
    assert index.update([Deletion("1")]).removed == 1
    assert set(content(index)) == {"2", "3", "4"}


def test_what_cannot_be_taken_leaves_the_index_as_it_was(encoder: BiEncoder):
    index = PassageIndex.build(BEFORE, encoder=encoder)
    before = content(index)
    with pytest.raises(ValueError, match=r"'8'.*has no text"):
        index.update([Deletion("1"), passage("8", " ")])
    with pytest.raises(TypeError):
        index.update([Deletion("1"), 3])  # type: ignore[list-item]
    assert content(index) == before


def article(pmid: str, text: str, version: int = 1, retracted: bool = False) -> str:
    notice = '<CommentsCorrectionsList><CommentsCorrections RefType="RetractionIn"/></CommentsCorrectionsList>'
    return (
        f'<PubmedArticle><MedlineCitation><PMID Version="{version}">{pmid}</PMID>'
        "<Article><ArticleTitle>T</ArticleTitle>"
        f"<Abstract><AbstractText>{text}</AbstractText></Abstract></Article>{notice if retracted else ''}"
        "</MedlineCitation></PubmedArticle>"
    )


def file(*content: str) -> io.BytesIO:
    return io.BytesIO(f"<PubmedArticleSet>{''.join(content)}</PubmedArticleSet>".encode())


def deletion(*pmids: str) -> str:
    listed = "".join(f"<PMID>{pmid}</PMID>" for pmid in pmids)
    return f"<DeleteCitation>{listed}</DeleteCitation>"


def test_pubmeds_update_files_in_their_order(encoder: BiEncoder):
    baseline = file(article("1", "a b"), article("2", "c d"), article("3", "e"))
    index = PassageIndex.build(read_passages(baseline), encoder=encoder)
    changes = read_updates(
        [
            file(article("1", "a b", retracted=True), article("4", "new"), deletion("2")),
            file(article("2", "c d again"), article("3", "e two", version=2), deletion("4")),
        ]
    )
    assert index.update(changes).to_dict() == {
        "added": 0, "replaced": 3, "removed": 0, "retracted": 1, "unchanged": 0, "older": 0, "unknown": 1,
    }  # fmt: skip
    assert content(index) == {"1": ("a b", True), "2": ("c d again", False), "3": ("e two", False)}
