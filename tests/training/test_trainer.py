"""Real runs of a few steps on the tiny model."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from biorerank_plugins import BioReranker
from biorerank_plugins.errors import ModelError
from biorerank_plugins.training.rows import TrainingPair
from biorerank_plugins.training.tasks import TrainConfig, length_grouped_sampler
from biorerank_plugins.training.trainer import train

ROWS = [
    TrainingPair(
        f"does aspirin work {i}", "aspirin inhibits platelets" if i % 2 else "insulin lowers glucose", i % 2, "t"
    )
    for i in range(24)
]
CONFIG = TrainConfig(epochs=4, batch_size=8, learning_rate=3e-3, bf16=False, save_steps=4, train_length=64)


def _train(base: Path, out: Path, config: TrainConfig = CONFIG, rows=ROWS):
    return train(base, rows, out, config, show_progress=False).model


@pytest.fixture(scope="module")
def trained(tiny_encoder_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    _train(tiny_encoder_dir, out)
    return out


def test_a_run_learns_and_saves_a_model_that_any_loader_takes(trained: Path):
    ranker = BioReranker(trained / "model", device="cpu", dtype="float32")
    ranking = ranker.rank("does aspirin work", ["insulin lowers glucose", "aspirin inhibits platelets"])
    assert ranking[0].input_index == 1
    assert ranking[0].score - ranking[1].score > 0.3
    log = json.loads((trained / "training.json").read_text())
    assert log["config"] == dataclasses.asdict(CONFIG)
    losses = [entry["loss"] for entry in log["log"] if "loss" in entry]
    assert losses[-1] < losses[0]


def test_long_passages_neither_break_the_run_nor_the_model(tiny_encoder_dir: Path, tmp_path: Path):
    """The tiny model has 128 positions, the default lengths are 256 and 512."""
    long = [dataclasses.replace(row, passage=row.passage * 100) for row in ROWS[:8]]
    model = _train(tiny_encoder_dir, tmp_path, TrainConfig(batch_size=4, bf16=False), long)
    assert np.isfinite(model.predict([["a", "cells " * 500]])).all()


def test_a_run_that_was_stopped_goes_on_from_the_last_whole_checkpoint(
    tiny_encoder_dir: Path, trained: Path, tmp_path: Path
):
    checkpoints = Path(shutil.copytree(trained / "checkpoints", tmp_path / "checkpoints"))
    names = sorted(path.name for path in checkpoints.glob("checkpoint-*"))
    assert names == ["checkpoint-12", "checkpoint-8"]
    (checkpoints / "checkpoint-12" / "trainer_state.json").unlink()  # killed while it was written
    _train(tiny_encoder_dir, tmp_path)
    log = json.loads((tmp_path / "training.json").read_text())["log"]
    assert [entry["step"] for entry in log if "loss" in entry] == [4, 8, 12]
    whole, resumed = (BioReranker(out / "model", device="cpu", dtype="float32") for out in (trained, tmp_path))
    pairs = [(row.question, row.passage) for row in ROWS]
    assert resumed.predict(pairs) == pytest.approx(whole.predict(pairs), abs=1e-4)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_good_checkpoints(tiny_encoder_dir: Path, tmp_path: Path):
    config = dataclasses.replace(CONFIG, learning_rate=math.inf, warmup_ratio=0.0)
    with pytest.raises(ModelError, match=r"is not finite at step \d+: training stopped"):
        _train(tiny_encoder_dir, tmp_path, config)
    assert not (tmp_path / "model").exists()
    assert not list(tmp_path.glob("checkpoints/checkpoint-*"))  # it was seen before the first one was written


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "no training rows"),
        ([dataclasses.replace(ROWS[0], label=1.5)], "Row 0 has label 1.5"),
        ([dataclasses.replace(ROWS[0], label=math.nan)], "Row 0 has label nan"),
        ([dataclasses.replace(ROWS[0], question=" ")], "Row 0 has an empty question"),
        (ROWS[::2], "needs positives and negatives"),
    ],
)
def test_rows_that_cannot_be_learned_from_are_refused(tmp_path: Path, rows, sentence):
    with pytest.raises(ValueError, match=sentence):
        _train(tmp_path / "not read", tmp_path, CONFIG, rows)


@pytest.mark.parametrize(("n", "drop_last"), [(7, False), (1000, False), (1003, False), (1003, True)])
def test_batches_hold_each_row_once_with_little_padding(n, drop_last):
    draw = np.random.default_rng(0)
    lengths = draw.integers(1, 400, n).tolist()
    data = {"question": ["q"] * n, "passage": ["x" * length for length in lengths]}

    class Data(dict):
        def __len__(self) -> int:
            return n

    def batches(epoch: int) -> list[list[int]]:
        sampler = length_grouped_sampler(Data(data), 8, drop_last, seed=3)
        sampler.set_epoch(epoch)
        found = list(sampler)
        assert len(found) == len(sampler)
        return found

    rows = [row for batch in batches(0) for row in batch]
    assert len(rows) == len(set(rows)) == (n // 8 * 8 if drop_last else n)
    assert batches(0) == batches(0)
    if n > 100:
        assert batches(0) != batches(1)
        padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches(0))
        assert padded < 1.1 * sum(lengths)


def test_fp16_weights_are_trained_in_fp32(tiny_encoder_dir: Path, tmp_path: Path):
    from sentence_transformers import SentenceTransformer

    SentenceTransformer(str(tiny_encoder_dir), device="cpu").half().save_pretrained(str(tmp_path / "half"))
    model = _train(tmp_path / "half", tmp_path / "out", dataclasses.replace(CONFIG, epochs=1))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert len(BioReranker(model, device="cpu").rank("a", ["b", "c"])) == 2  # as it comes from the trainer
