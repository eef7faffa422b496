"""The plots of a report, as PNG images with a description in words. Needs matplotlib (extra ``eval``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from biorerank_plugins._common.plots import COLOURS, curve_style, new_figure, png, require_matplotlib
from biorerank_plugins.evaluation.metrics import measure_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from biorerank_plugins.evaluation.results import SystemsReport

_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
_MOST_LINES = len(COLOURS)  # more in one plot cannot be told apart
_NAME_LENGTH = 42
_WIDTH = 8  # inches


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot, with a description for those who do not see it."""

    file_name: str
    title: str
    description: str
    png: bytes


def draw_plots(report: SystemsReport) -> list[Plot]:
    """Draw means with intervals, the depth curve, and differences by question, as far as there is something to draw."""
    require_matplotlib()
    plots = [_means(report)]
    if any(len(system.depth) > 1 for system in report.systems.values()):
        plots.append(_depth(report))
    if report.comparisons:
        plots.append(_differences(report))
    return plots


def _means(report: SystemsReport) -> Plot:
    measure = report.measures[0]
    label = measure_label(measure)
    names = list(report.systems)
    means = [report.systems[name].measured.means[measure] for name in names]
    intervals = [report.systems[name].intervals[measure] for name in names]
    figure, (axes,) = new_figure(_WIDTH, 1.2 + 0.42 * len(names))
    colours = ["#999999" if name == report.baseline else COLOURS[0] for name in names]
    below = [mean - low for mean, (low, _) in zip(means, intervals, strict=True)]
    above = [high - mean for mean, (_, high) in zip(means, intervals, strict=True)]
    axes.barh(range(len(names)), means, xerr=[below, above], color=colours, ecolor="#222222", capsize=3, height=0.65)
    axes.set_yticks(range(len(names)), [_shown(name) for name in names])
    for text in axes.get_yticklabels():
        text.set_parse_math(False)
    axes.invert_yaxis()  # the first system on top
    axes.set_xlim(0, min(1.0, max(high for _, high in intervals) * 1.12 + 0.02))
    for place, (mean, (_, high)) in enumerate(zip(means, intervals, strict=True)):
        axes.annotate(f"{mean:.3f}", (high, place), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_xlabel(f"{label}, mean and 95 % interval (grey: the baseline)")
    axes.grid(axis="x", alpha=0.3)
    said = "; ".join(
        f"{name} {mean:.3f} ({low:.3f} to {high:.3f})"
        for name, mean, (low, high) in zip(names, means, intervals, strict=True)
    )
    return Plot(
        "means.png", f"{label} by system", f"Bar chart of {label} with 95 % confidence intervals: {said}.", png(figure)
    )


def _depth(report: SystemsReport) -> Plot:
    label = measure_label(report.measures[0])
    curves = {name: report.systems[name].depth for name in _drawn(report) if report.systems[name].depth}
    figure, axes = _lines(report, curves)
    axes.set_xscale("log")
    ticks = list(next(iter(curves.values())))
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set(xlabel="candidates of the first stage", ylabel=label)
    said = "; ".join(
        f"{name}: " + ", ".join(f"{value:.3f} at {n}" for n, value in curve.items()) for name, curve in curves.items()
    )
    title = f"{label} by number of candidates{_selection(report)}"
    return Plot("depth.png", title, f"Line chart of {label} by number of candidates. {said}.", png(figure))


def _differences(report: SystemsReport) -> Plot:
    measure = report.measures[0]
    label = measure_label(measure)
    before = report.systems[report.baseline].measured.per_query[measure]
    curves = {}
    for name in (name for name in _drawn(report) if name != report.baseline):
        after = report.systems[name].measured.per_query[measure]
        deltas = sorted((after[query_id] - value for query_id, value in before.items()), reverse=True)
        curves[name] = dict(enumerate(deltas, start=1))
    figure, axes = _lines(report, curves, marker=None)
    axes.axhline(0, color="#444444", linewidth=0.8)
    axes.set_xlabel("questions, from the largest gain to the largest loss")
    axes.set_ylabel(f"{label} minus that of {_shown(report.baseline)}", parse_math=False)
    compared = {name: report.comparisons[name][measure] for name in curves}
    said = "; ".join(
        f"{name} is better on {one.wins} questions and worse on {one.losses}" for name, one in compared.items()
    )
    title = f"{label} of each question, against {report.baseline}{_selection(report)}"
    return Plot("differences.png", title, f"Differences to {report.baseline}, sorted: {said}.", png(figure))


def _drawn(report: SystemsReport) -> list[str]:
    """Return the systems that plots show, in report order: the best ones, if there are more than fit."""
    measure = report.measures[0]
    ranked = sorted(report.systems, key=lambda name: -report.systems[name].measured.means[measure])
    # Runs have no curve, and the baseline has no difference: each plot still shows something of the others.
    kept = {*ranked[: _MOST_LINES - 1], report.baseline}
    return [name for name in report.systems if name in kept]


def _selection(report: SystemsReport) -> str:
    n_drawn, n_all = len(_drawn(report)), len(report.systems)
    return f" (the best {n_drawn} of {n_all} systems)" if n_drawn < n_all else ""


def _lines(report: SystemsReport, curves: Mapping[str, Mapping[int, float]], **style: Any) -> tuple[Figure, Axes]:
    """Draw a curve of each system, which looks the same in every plot; the legend is below, where it hides nothing."""
    figure, (axes,) = new_figure(_WIDTH, 5)
    for place, name in enumerate(_drawn(report)):
        if name in curves:
            curve = curves[name]
            look = curve_style(place, _DASHES[place % len(_DASHES)]) | style
            axes.plot(list(curve), list(curve.values()), label=_shown(name), **look)
    axes.grid(alpha=0.3)
    legend = figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure, axes


def _shown(name: str) -> str:
    """Shorten a name; one that begins with an underscore would be left out of a legend."""
    half = _NAME_LENGTH // 2 - 1
    short = name if len(name) <= _NAME_LENGTH else f"{name[:half]}…{name[-half:]}"
    return f" {short}" if short.startswith("_") else short
