"""``biorerank train``: rows become a cross-encoder, by a recipe."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biorerank_plugins.cli.loading import Device, quiet_libraries
from biorerank_plugins.cli.one_line_errors import command, usage_error
from biorerank_plugins.cli.option_groups import option, path, path_option
from biorerank_plugins.cli.output import Column, Output

if TYPE_CHECKING:
    from biorerank_plugins.training.trainer import Trained


def _setting(text: str, **limits: float) -> Any:
    return option(f"{text}; as the recipe says.", **limits)


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings that take the place of a recipe's."""

    runs: Annotated[int | None, option("Runs, each from the weights of the one before.", min=1)] = None
    epochs: Annotated[float | None, _setting("Passes over the rows")] = None
    batch_size: Annotated[int | None, _setting("Rows a step", min=1)] = None
    learning_rate: Annotated[float | None, _setting("Peak learning rate")] = None
    warmup_ratio: Annotated[float | None, _setting("Share of warm-up steps", min=0, max=1)] = None
    warmup_steps: Annotated[int | None, _setting("Warm-up steps", min=0)] = None
    weight_decay: Annotated[float | None, _setting("Weight decay of AdamW", min=0)] = None
    train_length: Annotated[int | None, _setting("Tokens a pair in training", min=8)] = None
    max_length: Annotated[int | None, _setting("Tokens a pair of the saved model", min=8)] = None
    bf16: Annotated[bool | None, option("bf16, where the device has it.", "--bf16/--no-bf16")] = None
    seed: Annotated[int | None, _setting("Of head and order", min=0)] = None
    log_steps: Annotated[int | None, _setting("Steps between log entries", min=1)] = None
    save_steps: Annotated[int | None, _setting("Steps between checkpoints", min=1)] = None


@command
def train(
    *,
    pairs: Annotated[
        list[Path], typer.Argument(metavar="PAIRS", parser=path, help="Rows, as biorerank pairs writes them.")
    ],
    out: Annotated[Path, path_option("Where all results go.", "--out", "-o", metavar="FOLDER")],
    recipe: Annotated[str, option("biobert-bioasq, minilm or biorerank.", "--recipe", "-r")] = "minilm",
    base: Annotated[str | None, option("Start from this folder or hub name instead.", metavar="MODEL")] = None,
    optimizer: Annotated[str | None, option("Of biobert-bioasq: card-arguments (default) or fit-defaults.")] = None,
    settings: Settings,
    limit_rows: Annotated[int | None, option("Use N rows only, drawn at random (seed 42).", min=2)] = None,
    dev: Annotated[Path | None, path_option("BEIR folder or rows to measure on.", metavar="PATH")] = None,
    dev_steps: Annotated[int | None, _setting("Steps between measurements", min=1)] = None,
    dev_candidates: Annotated[int, option("BM25's passages a question.", min=1)] = 50,
    limit_dev: Annotated[int | None, option("Measure on the first N dev questions only.", min=1)] = None,
    early_stop: Annotated[
        int | None, option("Stop after N measurements without a rise; keep the best.", min=1, metavar="N")
    ] = None,
    fresh: Annotated[bool, option("Delete what an earlier run left in the folder.", "--fresh")] = False,
    device: Device = None,
    output: Output,
) -> None:
    """Train a cross-encoder: model, card, log and loss curve go into one folder.

    A run that was stopped goes on from its last checkpoint when the same command is given again.

    Example: biorerank train pairs.jsonl.gz --recipe biobert-bioasq --base biobert-folder --runs 2 --out my-model
    """
    from biorerank_plugins.training.recipes import get_recipe

    if early_stop is not None and dev is None:
        usage_error("--early-stop needs --dev PATH to look at.")
    chosen = get_recipe(recipe)
    given = {**asdict(settings), "dev_steps": dev_steps}
    overrides = {name: value for name, value in given.items() if value is not None}
    chosen.settings(optimizer, overrides)  # a wrong setting shows before the rows are read
    rows = [row for file in pairs for row in chosen.task.read(file)]
    if limit_rows is not None and limit_rows < len(rows):
        rows = random.Random(42).sample(rows, limit_rows)
    dev_set = None
    if dev is not None:
        from biorerank_plugins.training.dev import read_dev

        dev_set = read_dev(dev, candidates=dev_candidates, limit=limit_dev)
    quiet_libraries()
    from biorerank_plugins.training.recipes import train_recipe

    output.note(f"{len(rows):,} rows, recipe {recipe}, from {chosen.base if base is None else base}")
    trained = train_recipe(
        chosen,
        rows,
        out,
        base=base,
        optimizer=optimizer,
        overrides=overrides,
        dev=dev_set,
        early_stop=early_stop,
        device=device,
        fresh=fresh,
        show_progress=output.show_progress,
    )
    _report(output, out, trained)


def _report(output: Output, out: Path, trained: Trained) -> None:
    from biorerank_plugins.training.card import loss_points

    points = loss_points(trained.log)
    losses = [{"epoch": epoch, "step": step, "loss": loss} for epoch, step, loss in points]
    output.document({"folder": str(out), "model": str(out / "model"), "dev": trained.dev, "log": losses})
    shown = points if len(points) <= 12 else [points[round(i * (len(points) - 1) / 11)] for i in range(12)]
    output.table(
        [Column("epoch", numeric=True), Column("step", numeric=True), Column("loss", numeric=True)],
        [(f"{epoch:.2f}", step, f"{loss:.4f}") for epoch, step, loss in shown],
    )
    for name, value in (trained.dev or {}).items():
        output.line(f"{name.removeprefix('dev_')}: {value:.4f}")
    output.note(f"{out / 'model'}: the model and its card.")
