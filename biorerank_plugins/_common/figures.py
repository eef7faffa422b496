"""Figures, drawn alike everywhere. Needs matplotlib (extra ``eval``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from biorerank_plugins.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "DPI", "MARKERS", "new_figure", "require_matplotlib"]

# Okabe and Ito's colours, which people with any colour vision can tell apart; markers differ as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DPI = 130


def require_matplotlib() -> None:
    """Make sure that figures can be drawn.

    :raises MissingExtraError: if matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("matplotlib", "eval") from error


def new_figure(width: float, height: float, *, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure and its panels, side by side.

    :param width: inches.
    :param height: inches.
    :param columns: number of panels.
    :raises MissingExtraError: if matplotlib is not installed.
    """
    require_matplotlib()
    # Without pyplot: no global state, no window, and threads do not meet.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    panels: Any = figure.subplots(1, columns, squeeze=False)[0]
    for axes in panels:
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return figure, list(panels)
