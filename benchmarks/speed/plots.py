"""The plots of a benchmark, as PNG images. Needs matplotlib (extra ``eval``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biorerank_plugins._common.plots import COLOURS, curve_style, new_figure, png
from biorerank_plugins.speed.systems import BASELINE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from benchmarks.speed.curves import Latencies, Throughputs

__all__ = ["draw_latencies", "draw_throughputs"]

_BLACK = "#000000"  # the baseline
_COLOURS = (_BLACK, *(colour for colour in COLOURS if colour != _BLACK))
_SIZE = (9.6, 4.6)  # inches
_MOST_LINES = len(_COLOURS)  # more in one plot cannot be told apart


def draw_throughputs(found: Throughputs, path: Path, *, title: str) -> None:
    """Draw pairs a second over the batch size: left the baseline, right our systems, on one scale.

    :param found: what was measured.
    :param path: file to write, PNG.
    :param title: of the plot.
    :raises MissingExtraError: if matplotlib is not installed.
    """
    figure, (left, right) = new_figure(*_SIZE, columns=2)
    left.plot(list(found.by_pairs), list(found.by_pairs.values()), label=f"{BASELINE} (fp32)", **_style(0))
    for place, (name, curve) in enumerate(_few(found.by_tokens).items(), start=1):
        right.plot(list(curve), list(curve.values()), label=name, **_style(place))
    left.set_ylabel("pairs a second")
    left.set_xlabel("pairs a batch (batch_size)")
    right.set_xlabel("padded tokens a batch (max_batch_tokens)")
    for axes, sizes in ((left, found.by_pairs), (right, {size for c in found.by_tokens.values() for size in c})):
        _logarithmic(axes, sizes)
        axes.set_ylim(bottom=0)
    right.sharey(left)
    left.set_ylim(
        0, 1.08 * max(rate for curve in (found.by_pairs, *found.by_tokens.values()) for rate in curve.values())
    )
    _save(figure, path, title)


def draw_latencies(found: Latencies, path: Path, *, title: str) -> None:
    """Draw the time of one request over the number of candidates: median and 95 of 100.

    :param found: what was measured.
    :param path: file to write, PNG.
    :param title: of the plot.
    :raises MissingExtraError: if matplotlib is not installed.
    """
    figure, panels = new_figure(*_SIZE, columns=2)
    for axes, curves, label in zip(
        panels, (found.median, found.p95), ("p50", f"p95 (of {found.requests} requests)"), strict=True
    ):
        for place, (name, curve) in enumerate(_few(curves).items()):
            axes.plot(list(curve), [1000 * s for s in curve.values()], label=name, **_style(place))
        _logarithmic(axes, {depth for curve in curves.values() for depth in curve})
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("candidates")
        axes.set_ylabel(f"milliseconds a request, {label}")
    low, high = (f(axes.get_ylim()[n] for axes in panels) for n, f in ((0, min), (1, max)))
    for axes in panels:
        axes.set_ylim(low, high)
    _save(figure, path, title)


def _few(curves: Mapping[str, Any]) -> dict[str, Any]:
    """Return as many curves as can be told apart: the baseline and ours before the others."""
    order = sorted(curves, key=lambda name: (name != BASELINE, not name.startswith("ours-")))
    return {name: curves[name] for name in order[:_MOST_LINES]}


def _style(place: int) -> dict[str, Any]:
    return curve_style(place, "--" if place == 0 else "-", _COLOURS[place % len(_COLOURS)])


def _logarithmic(axes: Axes, ticks: Iterable[int]) -> None:
    shown = sorted(ticks)
    axes.set_xscale("log", base=2)
    axes.set_xticks(shown, [str(tick) for tick in shown])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    for text in axes.get_xticklabels():
        text.set_rotation(45 if len(shown) > 5 else 0)


def _save(figure: Figure, path: Path, title: str) -> None:
    figure.suptitle(title)
    labels: dict[str, Any] = {}
    for axes in figure.axes:
        labels |= dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    legend = figure.legend(labels.values(), labels.keys(), loc="outside lower center", ncols=4, frameon=False)
    for text in legend.get_texts():
        text.set_fontsize(8)
    path.write_bytes(png(figure))
