"""Fine-tuning of a bi-encoder: real runs on the tiny model, and batches."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.training.bi_encoder import (
    BiEncoderConfig,
    Triple,
    fill_batches,
    read_triples,
    train_bi_encoder,
)
from biorerank_plugins.errors import ModelError
from biorerank_plugins.first_stage import BiEncoder
from biorerank_plugins.passages import Passage

TRIPLES = [
    Triple("does aspirin work", "aspirin inhibits platelets", "insulin lowers glucose", "a"),
    Triple("glucose", "insulin lowers glucose", "aspirin inhibits platelets", "b"),
] * 8
CONFIG = BiEncoderConfig(epochs=8, batch_size=2, learning_rate=3e-3, bf16=False, save_steps=20)


@pytest.fixture(scope="module")
def trained(tiny_encoder_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bi")
    train_bi_encoder(tiny_encoder_dir, TRIPLES, out, CONFIG, show_progress=False)
    return out


def test_a_run_learns_and_saves_an_encoder_that_the_first_stage_takes(trained: Path):
    encoder = BiEncoder(trained / "model", device="cpu", dtype="float32")
    queries = encoder.encode_queries(["does aspirin work", "glucose"])
    texts = ["aspirin inhibits platelets", "insulin lowers glucose"]
    passages = encoder.encode_passages([Passage(str(n), text) for n, text in enumerate(texts)])
    assert (queries @ passages.T).argmax(axis=1).tolist() == [0, 1]
    log = json.loads((trained / "training.json").read_text())
    losses = [entry["loss"] for entry in log["log"] if "loss" in entry]
    assert losses[-1] < losses[0]


def test_no_topic_is_twice_in_a_batch_and_nothing_that_fits_is_lost():
    topics = ["a", "a", "b", "b", "c", "a"]
    assert fill_batches(range(6), topics, 3) == [[0, 2, 4], [1, 3]]  # row 5 would stand alone
    assert fill_batches([], [], 3) == []


def test_impossible_triples_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="no training triples"):
        train_bi_encoder("nowhere", [], tmp_path)
    with pytest.raises(ValueError, match="empty text"):
        train_bi_encoder("nowhere", [Triple("q", "p", " ", "t")], tmp_path)


def test_triples_are_read_from_json_lines(tmp_path: Path):
    path = tmp_path / "triples.jsonl"
    path.write_text('{"query": "q", "positive": "p", "negative": "n", "topic": 7}\n', encoding="utf-8")
    assert read_triples(path) == [Triple("q", "p", "n", "7")]
    path.write_text("{}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 1"):
        read_triples(path)


def test_checkpoints_of_other_rows_are_refused(tiny_encoder_dir: Path, trained: Path):
    with pytest.raises(ModelError, match="another run"):
        train_bi_encoder(tiny_encoder_dir, TRIPLES[:4], trained, CONFIG, show_progress=False)
