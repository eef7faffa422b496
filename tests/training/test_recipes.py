"""The card's recipe, run in full on a small cased BERT made here: two optimizers, two runs, everything it writes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from support.training import ROWS, make_cased_bert

from biorerank_plugins import BioReranker
from biorerank_plugins._common.versions import install_line
from biorerank_plugins.training.card import loss_points
from biorerank_plugins.training.dev import DevSet
from biorerank_plugins.training.recipes import RECIPES, Recipe, get_recipe, train_recipe
from biorerank_plugins.training.tasks import TrainConfig

SMALL = {"epochs": 4, "batch_size": 8, "max_length": 64, "train_length": 64, "log_steps": 1, "save_steps": 6}
DEV = DevSet(
    "tiny-dev", {"d": ("does Aspirin inhibit", [("a", "insulin lowers"), ("b", "aspirin platelets")])}, {"d": {"b": 1}}
)


@pytest.fixture(scope="module")
def cased(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cased_bert(tmp_path_factory.mktemp("biobert") / "small-cased")


@pytest.fixture(scope="module")
def card_run(cased: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("card")
    recipe = get_recipe("biobert-bioasq")
    train_recipe(recipe, ROWS, out, base=cased, overrides={**SMALL, "runs": 2}, dev=DEV, show_progress=False)
    return out


def test_the_settings_are_those_of_the_card():
    recipe = get_recipe("biobert-bioasq")
    card, fit = recipe.settings("card-arguments", {}), recipe.settings("fit-defaults", {})
    assert recipe.base == "dmis-lab/biobert-base-cased-v1.1"
    assert recipe.settings(None, {}) == card
    for config in (card, fit):
        assert (config.epochs, config.batch_size, config.max_grad_norm, config.seed) == (2, 16, 1.0, 42)
        assert (config.train_length, config.max_length, config.bf16, config.log_steps) == (512, 512, False, 500)
        assert config.dropout is None
    assert (card.learning_rate, card.weight_decay, card.warmup(120_312)) == (5e-5, 0.0, 0)
    assert (fit.learning_rate, fit.weight_decay, fit.warmup(120_312)) == (2e-5, 0.01, 10_000)
    assert -(-120_312 // card.batch_size) * card.epochs == 15_040 == recipe.reference[2][1]


def test_fit_defaults_are_those_of_the_installed_fit():
    import inspect

    from sentence_transformers import CrossEncoder

    defaults = {name: p.default for name, p in inspect.signature(CrossEncoder.fit).parameters.items()}
    fit = get_recipe("biobert-bioasq").settings("fit-defaults", {})
    assert defaults["scheduler"] == "WarmupLinear"
    assert fit.warmup_steps == defaults["warmup_steps"]
    assert {"lr": fit.learning_rate} == defaults["optimizer_params"]
    assert (fit.weight_decay, fit.max_grad_norm) == (defaults["weight_decay"], defaults["max_grad_norm"])


def test_overrides_win_and_a_share_of_warm_up_replaces_a_number_of_steps():
    recipe = get_recipe("biobert-bioasq")
    config = recipe.settings("fit-defaults", {"warmup_ratio": 0.1, "learning_rate": 1e-3})
    assert (config.warmup(160), config.learning_rate) == (2, 1e-3)
    with pytest.raises(ValueError, match=r"no optimizer 'adam'; it has: card-arguments, fit-defaults"):
        recipe.settings("adam", {})
    with pytest.raises(ValueError, match="epochs must be a number above 0"):
        recipe.settings(None, {"epochs": 0})


def test_two_runs_follow_one_another_with_a_fresh_schedule(card_run: Path):
    training = json.loads((card_run / "training.json").read_text(encoding="utf-8"))
    rates = {run: [e["learning_rate"] for e in training["log"] if "loss" in e and e["run"] == run] for run in (1, 2)}
    assert rates[1] == rates[2] == pytest.approx([5e-5 * (1 - step / 12) for step in range(12)])
    points = loss_points(training["log"])
    assert [step for _, step, _ in points] == list(range(1, 25))
    assert points[-1][0] == pytest.approx(8.0)
    first, second = (BioReranker(card_run / name, device="cpu", dtype="float32") for name in ("model-run-1", "model"))
    pairs = [(row.question, row.passage) for row in ROWS[:4]]
    assert first.predict(pairs) != pytest.approx(second.predict(pairs), abs=1e-6)


def test_the_first_loss_of_the_second_run_is_that_of_the_weights_of_the_first(card_run: Path):
    """Without dropout in between: the saved weights of run 1, scored on all rows, lie near run 2's first losses."""
    model = BioReranker(card_run / "model-run-1", device="cpu", dtype="float32")
    logits = torch.tensor([model.rank(row.question, [row.passage])[0].logit for row in ROWS])
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor([row.label for row in ROWS]))
    log = json.loads((card_run / "training.json").read_text(encoding="utf-8"))["log"]
    second = [entry["loss"] for entry in log if entry["run"] == 2 and "loss" in entry]
    assert sum(second[:3]) / 3 == pytest.approx(float(loss), abs=0.1)


def test_a_cased_vocabulary_stays_cased_in_training_and_in_what_is_saved(cased: Path, card_run: Path):
    from sentence_transformers import CrossEncoder
    from transformers import AutoTokenizer

    saved = card_run / "model"
    assert json.loads((saved / "tokenizer_config.json").read_text())["do_lower_case"] is False
    ids = AutoTokenizer.from_pretrained(saved)("EGFR Homo Aspirin aspirin")["input_ids"]
    vocabulary = (cased / "vocab.txt").read_text(encoding="utf-8").split("\n")
    assert [vocabulary[id_] for id_ in ids] == ["[CLS]", "EGFR", "Homo", "Aspirin", "aspirin", "[SEP]"]
    assert CrossEncoder(str(saved), device="cpu").tokenizer("EGFR")["input_ids"] == [ids[0], ids[1], ids[-1]]


def test_both_optimizers_learn_and_differ(cased: Path, card_run: Path, tmp_path: Path):
    overrides = {**SMALL, "learning_rate": 3e-3}
    losses = {}
    for optimizer in ("card-arguments", "fit-defaults"):
        extra = {"warmup_steps": 4} if optimizer == "fit-defaults" else {}
        trained = train_recipe(
            get_recipe("biobert-bioasq"), ROWS, tmp_path / optimizer, base=cased, optimizer=optimizer,
            overrides={**overrides, **extra}, show_progress=False,
        )  # fmt: skip
        losses[optimizer] = [loss for _, _, loss in loss_points(trained.log)]
        rates = [entry["learning_rate"] for entry in trained.log if "loss" in entry]
        assert max(rates) == pytest.approx(3e-3)
        assert (rates[0] == max(rates)) == (optimizer == "card-arguments")
    assert all(values[-1] < values[0] for values in losses.values())
    assert losses["card-arguments"] != losses["fit-defaults"]


def test_the_card_and_the_curve_lie_beside_the_model(card_run: Path):
    card = (card_run / "model" / "README.md").read_text(encoding="utf-8")
    for heading in (
        "Model details", "Usage", "Training data", "Hyperparameters", "Training log", "Evaluation",
        "Framework versions",
    ):  # fmt: skip
        assert f"\n## {heading}\n" in card
    assert "120,312" in card
    assert "does aspirin work 0" in card
    assert "model.rank(" in card and "model.predict(" in card
    assert "| learning_rate | 5e-05 |" in card
    training = json.loads((card_run / "training.json").read_text(encoding="utf-8"))
    assert training["data"]["rows"] == 24
    assert training["optimizer"] == "card-arguments"
    assert set(training["dev"]) == {"dev_nDCG@10", "dev_AP", "dev_RR@10"}
    assert training["versions"]["transformers"]
    assert str(Path.home()) not in card


def test_the_curve_is_drawn_beside_the_card_or_left_out_with_a_note(
    card_run: Path, tmp_path: Path, monkeypatch, caplog
):
    pytest.importorskip("matplotlib")
    assert (card_run / "loss-curve.png").read_bytes()[:4] == b"\x89PNG"
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    recipe, base = get_recipe("biobert-bioasq"), card_run / "model"
    train_recipe(recipe, ROWS, tmp_path, base=base, overrides={**SMALL, "epochs": 0.5}, show_progress=False)
    assert not (tmp_path / "loss-curve.png").exists()
    assert install_line("eval") in caplog.text


def test_recipes_are_registered_once_and_found_by_name(monkeypatch):
    monkeypatch.setattr("biorerank_plugins.training.recipes.RECIPES", dict(RECIPES))
    from biorerank_plugins.training import recipes

    own = Recipe("mine", base="biorerank-encoder-minilm-l6", summary="a test", config=TrainConfig(epochs=3))
    assert recipes.register(own) is recipes.get_recipe("mine")
    with pytest.raises(ValueError, match="There is a recipe 'mine' already"):
        recipes.register(dataclasses.replace(own))
    with pytest.raises(ValueError, match=r"There is no recipe 'other'\. Choose one of: biobert-bioasq, minilm"):
        get_recipe("other")
