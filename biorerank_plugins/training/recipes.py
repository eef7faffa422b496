"""Recipes: a base model, settings and a task under one name.

``biobert-bioasq`` repeats what the card of the BioBERT cross-encoder that this project started from states. That card
lists the trainer's arguments (learning rate 5e-5, linear, no warm-up, weight decay 0), but its form is what
``CrossEncoder.fit()`` of sentence-transformers writes, which has an optimizer and a schedule of its own and leaves
those arguments at their defaults. The recipe has both, ``card-arguments`` and ``fit-defaults``. BioBERT's weights come
from the hub: this package's tests run the whole recipe on a small cased BERT.

A further recipe is one :func:`register` away::

    register(Recipe("mine", base="my-encoder", summary="…", config=TrainConfig(epochs=3)))

Rows of another form, or another loss, are a :class:`~biorerank_plugins.training.tasks.Task` of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from biorerank_plugins._common.files import write_json
from biorerank_plugins._common.versions import versions
from biorerank_plugins.errors import MissingExtraError
from biorerank_plugins.training.card import PACKAGES, CardFacts, draw_loss_curve, write_card
from biorerank_plugins.training.dev import DevSet
from biorerank_plugins.training.listwise import GROUPS
from biorerank_plugins.training.tasks import Recipe, TrainConfig
from biorerank_plugins.training.trainer import Trained, train

logger = logging.getLogger(__name__)

RECIPES: dict[str, Recipe] = {}
"""All recipes by name."""


def register(recipe: Recipe) -> Recipe:
    """Add a recipe.

    :raises ValueError: if its name is taken.
    """
    if recipe.name in RECIPES:
        raise ValueError(f"There is a recipe {recipe.name!r} already.")
    RECIPES[recipe.name] = recipe
    return recipe


def get_recipe(name: str) -> Recipe:
    """Return a recipe.

    :raises ValueError: if there is none of that name; lists those there are.
    """
    if name not in RECIPES:
        raise ValueError(f"There is no recipe {name!r}. Choose one of: {', '.join(RECIPES)}.")
    return RECIPES[name]


register(
    Recipe(
        "biobert-bioasq",
        base="dmis-lab/biobert-base-cased-v1.1",
        summary="BioBERT (cased) on BioASQ question-sentence pairs, as the card states it",
        config=TrainConfig(
            epochs=2,
            batch_size=16,
            dropout=None,
            train_length=512,
            max_length=512,
            bf16=False,
            log_steps=500,
            length_grouped=False,
        ),
        optimizers={
            "card-arguments": {"learning_rate": 5e-5, "warmup_ratio": 0.0, "weight_decay": 0.0},
            # fit() warms up for 10,000 steps whatever the length of the run; its examples passed 10 % of the steps.
            "fit-defaults": {"learning_rate": 2e-5, "warmup_steps": 10_000, "weight_decay": 0.01},
        },
        reference=((0.0665, 500, 0.566), (0.9973, 7_500, 0.449), (2.0, 15_040, 0.386), (4.0, 30_080, 0.361)),
    )
)
register(
    Recipe(
        "minilm",
        base="biorerank-encoder-minilm-l6",
        summary="the embedded MiniLM-L6 encoder, one epoch, short pairs: an hour on two CPU cores",
        config=TrainConfig(),
    )
)
register(
    Recipe(
        "biorerank",
        base="biorerank-minilm-l6",
        summary="the embedded reranker goes on, on groups: each positive above the negatives of its question",
        config=TrainConfig(batch_size=8, learning_rate=8e-5, save_steps=200, log_steps=50),
        task=GROUPS,
    )
)


def train_recipe(
    recipe: Recipe,
    rows: Sequence[Any],
    out: str | Path,
    *,
    base: str | Path | None = None,
    optimizer: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    dev: DevSet | None = None,
    early_stop: int | None = None,
    device: str | None = None,
    fresh: bool = False,
    show_progress: bool = True,
) -> Trained:
    """Train a model by a recipe and write all that belongs to it.

    The folder then holds ``model/`` with its card ``README.md``, ``training.json`` (settings, statistics, log,
    versions) and ``loss-curve.png`` (left out, with a note in the log, where matplotlib is not installed).

    :param recipe: see :data:`RECIPES`.
    :param rows: rows of the recipe's task.
    :param out: folder to write; a run that was stopped goes on from its last checkpoint there.
    :param base: weights to start from instead of the recipe's.
    :param optimizer: one of the recipe's optimizers; ``None`` for its first.
    :param overrides: settings to replace, by their names in :class:`TrainConfig`.
    :param dev: is measured every ``dev_steps`` steps and at the end.
    :param early_stop: stop when nDCG@10 on the dev set has not risen so many times in a row, and keep the best
        checkpoint instead of the last.
    :param device: ``"cpu"``, ``"cuda"``, …; ``None`` for CUDA where there is one, else the CPU.
    :param fresh: delete checkpoints and models that earlier runs left in ``out``.
    :param show_progress: whether to draw a progress bar.
    :raises ValueError: if nothing can be learned from the rows, a dev question is among them, ``early_stop`` is asked
        for without a dev set, or there is no such optimizer.
    :raises ModelError: if the base cannot be loaded, checkpoints in ``out`` are of another run, the loss becomes NaN or
        the disk is full (in both cases the last good checkpoint is kept).
    :raises MissingExtraError: if the extra ``train`` is not installed.

    Example::

        rows = read_rows("pairs.jsonl.gz")
        train_recipe(get_recipe("biobert-bioasq"), rows, "my-model", overrides={"runs": 2})
    """
    out = Path(out)
    config = recipe.settings(optimizer, overrides or {})
    chosen = str(recipe.base if base is None else base)
    trained = train(
        chosen,
        rows,
        out,
        config,
        task=recipe.task,
        recipe=recipe.name,
        dev=dev,
        early_stop=early_stop,
        device=device,
        fresh=fresh,
        show_progress=show_progress,
    )
    name = optimizer or next(iter(recipe.optimizers), None)
    facts = CardFacts(recipe, chosen, name, config, rows, trained, dev)
    write_json(out / "training.json", {**facts.to_dict(), "log": trained.log, "versions": versions(PACKAGES)})
    try:
        draw_loss_curve(trained.log, out / "loss-curve.png", reference=recipe.reference, title=recipe.name)
    except MissingExtraError as error:
        logger.warning("No loss-curve.png: %s", error)
    write_card(facts, out / "model" / "README.md")
    return trained
