"""Dev lists: where they come from and what they measure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.training.dev import DevSet, check_apart, read_dev
from biorerank_plugins.training.rows import TrainingPair, write_rows


def _beir(folder: Path) -> Path:
    (folder / "qrels").mkdir(parents=True)
    corpus = [{"_id": f"p{n}", "text": f"aspirin fact number{n}"} for n in range(4)] + [{"_id": "far", "text": "other"}]
    queries = [{"_id": "q", "text": "aspirin number2"}, {"_id": "unjudged", "text": "aspirin?"}]
    for name, records in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\tp2\t1\nq\tfar\t1\nq\tgone\t1\n")
    return folder


def test_lists_of_a_beir_folder_are_what_bm25_finds(tmp_path: Path):
    pytest.importorskip("bm25s")
    dev = read_dev(_beir(tmp_path / "beir"), candidates=3)
    ((question, passages),) = dev.lists.values()
    assert question == "aspirin number2"
    assert passages[0] == ("p2", "aspirin fact number2")
    assert len(passages) == 3
    # Missed passages count: found at rank 1 is one of three relevant ones.
    measured = dev.measure(lambda pairs: [float("number2" in text) for _, text in pairs])
    assert measured["AP"] == pytest.approx(1 / 3, abs=1e-5)


def test_lists_of_rows_are_the_rows_of_a_question(tmp_path: Path):
    rows = [TrainingPair("q one?", f"text {n}", float(n == 2)) for n in range(3)] + [TrainingPair("two?", "none", 0.0)]
    write_rows(rows, tmp_path / "dev.jsonl")
    dev = read_dev(tmp_path / "dev.jsonl")
    assert dev.questions == ["q one?", "two?"]
    assert list(dev.qrels) == ["qone"]  # no relevant passage, nothing to measure
    assert dev.measure(lambda pairs: [float(n) for n in range(len(pairs))]) == {"nDCG@10": 1.0, "AP": 1.0, "RR@10": 1.0}
    assert dev.measure(lambda pairs: [-float(n) for n in range(len(pairs))])["RR@10"] == pytest.approx(1 / 3, abs=1e-5)
    assert read_dev(tmp_path / "dev.jsonl", limit=1).questions == ["q one?"]
    write_rows(rows[:2], tmp_path / "none.jsonl")
    with pytest.raises(ReaderError, match="No question of the dev set has a relevant passage"):
        read_dev(tmp_path / "none.jsonl")


def test_dev_questions_in_the_training_rows_are_named():
    dev = DevSet("dev", {"1": ("Is p53 one?", []), "2": ("Other?", [])}, {"1": {"a": 1}})
    check_apart(["Something else"], dev)
    with pytest.raises(ValueError, match=r"1 question of the dev set dev is in the training rows.*'is P53, ONE'"):
        check_apart(["is P53, ONE", "Something else"], dev)
