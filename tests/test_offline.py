"""No network, no print, no change to the root logger (whole pipelines, given a folder)."""

from __future__ import annotations

import logging
from pathlib import Path

from biorerank_plugins import BiEncoder, BioReranker, Passage, PassageIndex, TwoStageSearch

PASSAGES = [Passage("1", "p53 suppresses tumours."), Passage("2", "Aspirin binds platelets.", "Aspirin")]


def test_a_reranker_of_a_folder(tiny_cross_encoder_dir: Path, no_network, monkeypatch, capsys):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    root = logging.getLogger()
    before = (root.level, list(root.handlers), list(root.filters), logging.raiseExceptions)
    with BioReranker(tiny_cross_encoder_dir, device="cpu") as reranker:
        assert len(reranker.rank("what is p53", PASSAGES)) == 2
        assert len(reranker.rank("what is p53", PASSAGES, show_progress=True)) == 2
    assert (root.level, list(root.handlers), list(root.filters), logging.raiseExceptions) == before
    assert logging.getLogger("biorerank_plugins").handlers == []
    assert capsys.readouterr().out == ""


def test_both_stages(tiny_cross_encoder_dir: Path, tiny_encoder_dir: Path, no_network, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    index = PassageIndex.build(PASSAGES, encoder=BiEncoder(tiny_encoder_dir, device="cpu"))
    search = TwoStageSearch(index, BioReranker(tiny_cross_encoder_dir, device="cpu"))
    ranking = search.search("what is p53", candidates=2)
    assert {line.passage.id for line in ranking} == {"1", "2"}
