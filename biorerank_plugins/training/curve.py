"""The loss of a run, drawn beside that of another log of the same recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from biorerank_plugins._common.plots import new_figure, png


def loss_points(log: Sequence[Mapping[str, Any]]) -> list[tuple[float, int, float]]:
    """Return (epoch, step, loss) of each entry of a log that has a loss; runs follow one another.

    :param log: entries as :class:`~biorerank_plugins.training.trainer.Trained` has them.
    """
    points: list[tuple[float, int, float]] = []
    epochs, steps, run = 0.0, 0, 1  # of the runs before
    for entry in log:
        if int(entry.get("run", 1)) != run:
            run = int(entry["run"])
            epochs, steps = (points[-1][0], points[-1][1]) if points else (0.0, 0)
        if "loss" in entry:
            points.append((epochs + float(entry["epoch"]), steps + int(entry["step"]), float(entry["loss"])))
    return points


def draw_loss_curve(
    log: Sequence[Mapping[str, Any]],
    path: str | Path,
    *,
    reference: Sequence[tuple[float, int, float]] = (),
    title: str = "",
) -> None:
    """Draw the loss against epochs, so that runs on different numbers of rows can be compared.

    :param log: entries of the log.
    :param reference: (epoch, step, loss) of another log, drawn as single points with their steps.
    :raises MissingExtraError: if the extra ``eval`` (matplotlib) is not installed.
    """
    figure, (axes,) = new_figure(7, 4)
    points = loss_points(log)
    axes.plot([epoch for epoch, _, _ in points], [loss for _, _, loss in points], marker=".", label="this run")
    if reference:
        epochs, _, losses = zip(*reference, strict=True)
        axes.plot(epochs, losses, linestyle="none", marker="x", color="black", label="the card's log")
        above: dict[str, Any] = {"xytext": (0, 7), "textcoords": "offset points", "fontsize": 7, "ha": "center"}
        for epoch, step, loss in reference:
            axes.annotate(f"step {step:,}: {loss}", (epoch, loss), **above)
        axes.margins(x=0.12, y=0.15)
    axes.set(xlabel="epochs", ylabel="training loss (mean since the point before)", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    Path(path).write_bytes(png(figure))
