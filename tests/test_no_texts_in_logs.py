"""Questions and passages may be about patients: no log line holds a word of them, however much is logged."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from biorerank_plugins import BiEncoder, BioReranker, Passage, PassageIndex, TwoStageSearch
from biorerank_plugins.errors import ScoringError

SECRET = "zyxsecret"
LONG = f"{SECRET} insulin lowers glucose. " * 60  # more than the model reads: it is cut, or read in windows


class Broken:
    def logits(self, query, texts):
        return [float("nan")] * len(texts)


def test_nothing_of_a_question_or_a_passage_is_logged(
    tiny_encoder_dir: Path, tiny_cross_encoder_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    for name in ("biorerank_plugins", "sentence_transformers", "transformers"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    passages = [Passage(f"p{n}", f"{SECRET} {n} {text}", f"Of {SECRET}") for n, text in enumerate(("aspirin.", LONG))]
    question = f"does {SECRET} lower glucose?"
    with PassageIndex.build(passages, encoder=BiEncoder(tiny_encoder_dir, device="cpu")) as index:
        index.save(tmp_path / "index")
    with (
        PassageIndex.load(tmp_path / "index") as index,
        BioReranker(tiny_cross_encoder_dir, device="cpu", cache_bytes=1 << 20) as reranker,
    ):
        search = TwoStageSearch(index, reranker)
        for _ in range(2):
            assert len(search.search(question, evidence=2, filters={"note": {"!=": SECRET}})) == 2
        index.add([Passage("p9", f"{SECRET} more")])
        index.remove(["p9"])
    with BioReranker(Broken()) as reranker, pytest.raises(ScoringError):
        reranker.rank(question, passages)
    assert len(caplog.records) > 2, "something was logged"
    assert [record.getMessage() for record in caplog.records if SECRET in record.getMessage()] == []


def test_the_host_examples_log_no_texts_either(
    tiny_encoder_dir: Path, tiny_cross_encoder_dir: Path, caplog: pytest.LogCaptureFixture
):
    pytest.importorskip("llama_index.core")
    from llama_index.core.schema import NodeWithScore, TextNode

    from biorerank_plugins.llama_index import BioRerankPostprocessor

    with caplog.at_level(logging.DEBUG, logger="biorerank_plugins"):
        reranker = BioRerankPostprocessor(tiny_cross_encoder_dir, device="cpu", evidence=1)
        nodes = [NodeWithScore(node=TextNode(text=f"{SECRET} {n}."), score=1.0) for n in range(3)]
        assert len(reranker.postprocess_nodes(nodes, query_str=f"what is {SECRET}")) == 2
    assert SECRET not in caplog.text
