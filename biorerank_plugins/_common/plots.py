"""Figures that are drawn without a window, as PNG images. Needs matplotlib (extra ``eval``), which is loaded at use."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from biorerank_plugins.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which people with any colour vision can tell apart; shapes differ as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DPI = 130


def require_matplotlib() -> None:
    """Make sure that plots can be drawn.

    :raises MissingExtraError: if matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("matplotlib", "eval") from error


def new_figure(width: float, height: float, *, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return an empty figure, and its panels from left to right.

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
    panels: list[Axes] = list(figure.subplots(1, columns, squeeze=False)[0])
    for axes in panels:
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return figure, panels


def curve_style(place: int, linestyle: Any, colour: str | None = None) -> dict[str, Any]:
    """Return how a curve is drawn, so that it can be told from the others.

    :param place: its number among the curves, from 0.
    :param linestyle: as matplotlib takes it.
    :param colour: instead of the one of its place.
    """
    return {
        "color": COLOURS[place % len(COLOURS)] if colour is None else colour,
        "linestyle": linestyle,
        "marker": MARKERS[place % len(MARKERS)],
        "markersize": 6,
        "markerfacecolor": "none",  # curves that lie on each other stay visible
        "linewidth": 1.6,
    }


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG image."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()
