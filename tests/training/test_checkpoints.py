"""Runs that go on, runs that must not, and runs that break: real ones of a few steps."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from support.training import ROWS

from biorerank_plugins import BioReranker
from biorerank_plugins.errors import ModelError
from biorerank_plugins.training.checkpoints import check_room, claim, explain_full_disk, last_checkpoint
from biorerank_plugins.training.dev import DevSet
from biorerank_plugins.training.tasks import TrainConfig
from biorerank_plugins.training.trainer import train

CONFIG = TrainConfig(epochs=4, batch_size=8, learning_rate=3e-3, bf16=False, save_steps=4, train_length=64)
LISTS = {"d": ("which drug inhibits", [("a", "insulin lowers glucose"), ("b", "aspirin inhibits platelets")])}
DEV = DevSet("tiny", LISTS, {"d": {"b": 1}})
PAIRS = [(row.question, row.passage) for row in ROWS[:4]]


@pytest.fixture(scope="module")
def trained(tiny_encoder_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    train(tiny_encoder_dir, ROWS, out, CONFIG, recipe="r", show_progress=False)
    return out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"recipe": "other"}, 'recipe was "r", now "other"'),
        ({"config": dataclasses.replace(CONFIG, learning_rate=1e-5)}, "settings.learning_rate was 0.003, now 1e-05"),
        ({"rows": ROWS[:-2]}, "rows was 24, now 22"),
        ({"rows": [dataclasses.replace(ROWS[0], passage="x"), *ROWS[1:]]}, "content of the rows was "),
        ({"early_stop": 2, "dev": DEV}, "early_stop was null, now 2"),
    ],
)
def test_checkpoints_of_another_run_are_refused_with_what_differs(tiny_encoder_dir: Path, trained: Path, changes, said):
    before = sorted(path.name for path in (trained / "checkpoints").iterdir())
    options = {"rows": ROWS, "config": CONFIG, "recipe": "r", **changes}
    with pytest.raises(ModelError) as error:
        train(tiny_encoder_dir, out=trained, show_progress=False, **options)
    assert said in str(error.value)
    assert sorted(path.name for path in (trained / "checkpoints").iterdir()) == before


def test_another_base_is_refused_too(tiny_cross_encoder_dir: Path, trained: Path):
    with pytest.raises(ModelError, match="base was"):
        train(tiny_cross_encoder_dir, ROWS, trained, CONFIG, recipe="r", show_progress=False)


def test_a_finished_run_is_taken_as_it_is_and_save_steps_may_change(tiny_encoder_dir: Path, trained: Path):
    weights = (trained / "model" / "model.safetensors").stat().st_mtime_ns
    log = json.loads((trained / "training.json").read_text())["log"]
    config = dataclasses.replace(CONFIG, save_steps=3)
    again = train(tiny_encoder_dir, ROWS, trained, config, recipe="r", show_progress=False)
    assert (trained / "model" / "model.safetensors").stat().st_mtime_ns == weights
    assert again.log == log


def test_checkpoints_that_say_nothing_or_nonsense_are_refused(tmp_path: Path):
    (tmp_path / "checkpoint-5").mkdir()
    with pytest.raises(ModelError, match=r"holds checkpoints, but no recipe.json"):
        claim(tmp_path, {"recipe": "r"})
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(ModelError, match=r"recipe.json is damaged"):
        claim(tmp_path, {"recipe": "r"})


def test_fresh_deletes_the_earlier_run_and_nothing_else(tiny_encoder_dir: Path, tmp_path: Path):
    config = dataclasses.replace(CONFIG, epochs=1)
    train(tiny_encoder_dir, ROWS, tmp_path, config, recipe="r", show_progress=False)
    (tmp_path / "notes.txt").write_text("mine")
    train(tiny_encoder_dir, ROWS[:-2], tmp_path, config, recipe="s", fresh=True, show_progress=False)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert json.loads((tmp_path / "checkpoints" / "recipe.json").read_text())["recipe"] == "s"


def test_the_last_whole_checkpoint_is_the_one_whose_state_is_whole(tmp_path: Path):
    assert last_checkpoint(tmp_path / "none") is None
    states = {4: '{"global_step": 4}', 8: '{"global_step": 8}', 12: '{"global_st', 16: None, 20: "[]"}
    for step, state in states.items():
        (tmp_path / f"checkpoint-{step}").mkdir()
        if state is not None:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-8")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize("file", ["optimizer.pt", "training_args.bin"])
def test_a_full_disk_is_said_and_costs_no_good_checkpoint(
    tiny_encoder_dir: Path, trained: Path, tmp_path: Path, file: str
):
    """Writing to /dev/full fails as on a full disk: here in the last checkpoint of a run that goes on from step 8."""
    checkpoints = Path(shutil.copytree(trained / "checkpoints", tmp_path / "checkpoints"))
    shutil.rmtree(checkpoints / "checkpoint-12")
    whole = (checkpoints / "checkpoint-8" / "model.safetensors").read_bytes()
    (checkpoints / "checkpoint-12").mkdir()
    (checkpoints / "checkpoint-12" / file).symlink_to("/dev/full")
    with pytest.raises(ModelError, match=r"The disk is full: .* The last good checkpoint is .*checkpoint-8\. Free"):
        train(tiny_encoder_dir, ROWS, tmp_path, CONFIG, recipe="r", show_progress=False)
    assert (checkpoints / "checkpoint-8" / "model.safetensors").read_bytes() == whole
    assert not (checkpoints / "checkpoint-12").exists()
    train(tiny_encoder_dir, ROWS, tmp_path, CONFIG, recipe="r", show_progress=False)  # there is room again
    assert (tmp_path / "model" / "model.safetensors").exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_every_way_to_say_that_the_disk_is_full_is_understood(tmp_path: Path, error: Exception):
    (tmp_path / "checkpoint-4").mkdir()  # half written
    with (
        pytest.raises(ModelError, match=r"The disk is full: .* There was no checkpoint yet"),
        explain_full_disk(tmp_path),
    ):
        raise error
    assert not (tmp_path / "checkpoint-4").exists()
    with pytest.raises(KeyError), explain_full_disk(tmp_path):
        raise KeyError("something else")


def test_too_little_room_for_one_checkpoint_is_said_at_the_start(tmp_path: Path):
    check_room(tmp_path, 1000)
    with pytest.raises(ModelError, match=r"GB free, but one checkpoint takes 12000.00 GB"):
        check_room(tmp_path, 10**12)


def test_a_loss_that_breaks_in_the_middle_keeps_the_checkpoints_before(tiny_encoder_dir: Path, tmp_path: Path):
    """The learning rate is so high that weights overflow after the first steps."""
    config = dataclasses.replace(CONFIG, learning_rate=3e37, warmup_steps=6, save_steps=1, epochs=8, max_grad_norm=1e9)
    with pytest.raises(ModelError, match=r"is not finite at step \d+: training stopped"):
        train(tiny_encoder_dir, ROWS, tmp_path, config, show_progress=False)
    kept = last_checkpoint(tmp_path / "checkpoints")
    assert kept is not None
    from safetensors.torch import load_file

    assert all(tensor.isfinite().all() for tensor in load_file(Path(kept) / "model.safetensors").values())


def test_early_stop_keeps_the_best_checkpoint(tiny_encoder_dir: Path, tmp_path: Path):
    """The list is in perfect order after the first measurements and cannot get better: patience runs out."""
    config = dataclasses.replace(CONFIG, epochs=40, dev_steps=4, learning_rate=1e-3)
    trained = train(tiny_encoder_dir, ROWS, tmp_path, config, dev=DEV, early_stop=2, show_progress=False)
    measured = [(e["step"], e["eval_dev_nDCG@10"]) for e in trained.log if "eval_dev_nDCG@10" in e]
    assert measured[-1][0] < 120  # stopped early
    best_step, best = max(measured, key=lambda entry: (entry[1], -entry[0]))
    assert [step for step, _ in measured][-1] == best_step + 2 * 4
    assert trained.dev is not None
    assert trained.dev["dev_nDCG@10"] == best
    checkpoint = tmp_path / "checkpoints" / f"checkpoint-{best_step}"
    kept, saved = (BioReranker(folder, device="cpu", dtype="float32") for folder in (checkpoint, tmp_path / "model"))
    assert saved.predict(PAIRS) == pytest.approx(kept.predict(PAIRS), abs=1e-6)


def test_a_dev_set_alone_is_only_measured(tiny_encoder_dir: Path, tmp_path: Path):
    config = dataclasses.replace(CONFIG, dev_steps=5)
    trained = train(tiny_encoder_dir, ROWS, tmp_path, config, dev=DEV, show_progress=False)
    assert [e["step"] for e in trained.log if "eval_dev_AP" in e] == [5, 10, 12]
    with pytest.raises(ValueError, match="early_stop needs a dev set"):
        train(tiny_encoder_dir, ROWS, tmp_path, config, early_stop=1, show_progress=False)
    seen = DevSet("dev", {"1": (ROWS[3].question.upper(), [])}, {"1": {"a": 1}})
    with pytest.raises(ValueError, match="of the dev set dev is in the training rows"):
        train(tiny_encoder_dir, ROWS, tmp_path, config, dev=seen, show_progress=False)


def test_a_run_that_failed_before_its_first_checkpoint_binds_nobody(tmp_path: Path):
    claim(tmp_path / "checkpoints", {"base": "a hub name that did not load"})
    claim(tmp_path / "checkpoints", {"base": "a folder"})
    assert json.loads((tmp_path / "checkpoints" / "recipe.json").read_text()) == {"base": "a folder"}
