"""Panels of curves, one function per kind: each draws the rows of its panel (a `figure` table) into axes.

Curves and their bands are seaborn's. Pictures of matrices are in `matrices`.
"""

import dataclasses
import functools
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatterSciNotation

from mesaopt.errors import InputError
from mesaopt.figures import style
from mesaopt.figures.options import Style
from mesaopt.figures.parts import Axes, Panel
from mesaopt.spec.look import Look

BAND_ALPHA = 0.22
#: up to so many values of a swept setting each have a tick
MOST_TICKS = 12
#: labels of ticks that are nearer to each other than this part of the axis would touch
TOUCHING = 0.05


def draw_curves(canvas: Canvas, panel: Panel, rows: pd.DataFrame, options: Style) -> None:
    """One line per series: mean over seeds, band of one standard deviation."""
    _lines(canvas, panel.axes, rows, series_lines(panel, rows), options)
    _finish(canvas, panel.axes, rows)
    canvas.set_ylim(bottom=0, top=top(panel.axes, rows))
    if panel.axes is None or panel.axes.legend:
        _legend(canvas, options, handlelength=2.2)


def draw_measured(canvas: Canvas, panel: Panel, rows: pd.DataFrame, options: Style) -> None:
    """Curves whose y axis does not begin at zero: what is measured along a training, and may be negative."""
    lines = series_lines(panel, rows)
    _lines(canvas, panel.axes, rows, lines, options)
    _finish(canvas, panel.axes, rows)
    if panel.axes is not None and not panel.axes.log:
        canvas.axhline(0, color="0.7", linewidth=0.6, zorder=1)
    _legend(canvas, options, handlelength=1.8, ncols=1 + (len(lines) > 4))


def draw_nothing(canvas: Canvas, options: Style) -> None:
    """A panel whose runs a scale leaves out."""
    canvas.set_axis_off()
    canvas.text(
        0.5, 0.5, "not run at this scale", transform=canvas.transAxes, ha="center", color="0.4", fontsize=options.font_size
    )


def top(axes: Axes | None, rows: pd.DataFrame) -> float | None:
    """The published end of the y axis, where every curve comes below it."""
    published = axes.y_top if axes is not None else None
    return published if published and (rows.groupby("series")["y"].min() < published).all() else None


def draw_shades(canvas: Canvas, panel: Panel, rows: pd.DataFrame, options: Style) -> None:
    """One line per series in the shades of the panel's family, light to dark; a series with a line of its own is grey."""
    lines = series_lines(panel, rows)
    points = any(source.at is not None for source in panel.sources)
    marks: dict[str, Any] = {"marker": "o", "markersize": 2.2 * options.line_width} if points else {}
    if points and (panel.axes is None or panel.axes.x_range is None):
        marks["clip_on"] = False  # the outer markers stand on the frame
    _lines(canvas, panel.axes, rows, lines, options, **marks)
    _finish(canvas, panel.axes, rows)
    canvas.set_ylim(bottom=min(panel.axes.y_bottom if panel.axes else 0.0, rows["y"].min()))
    _legend(canvas, options, handlelength=1.8, ncols=1 + (len(lines) > 4))


def draw_sweep(canvas: Canvas, panel: Panel, rows: pd.DataFrame, options: Style) -> None:
    """A value over a swept setting, such as depth: a line per series with a marker at every value that was tried."""
    _lines(canvas, panel.axes, rows, series_lines(panel, rows), options, marker="o", markersize=3 * options.line_width)
    tried = sorted(rows["x"].unique())
    if len(tried) <= MOST_TICKS:
        canvas.set_xticks(tried, _apart(tried))
    if panel.axes is not None and panel.axes.log:
        logarithmic(canvas)
    else:
        canvas.set_ylim(bottom=min(0.0, canvas.get_ylim()[0]))
    _legend(canvas, options, handlelength=2.2)


def _apart(ticks: Sequence[float]) -> list[str]:
    """Labels of ticks in ascending order; none where it would touch the one before it."""
    labels: list[str] = []
    free = -np.inf
    for x in ticks:
        labels.append(f"{x:g}" if x >= free else "")
        free = x + TOUCHING * (ticks[-1] - ticks[0]) if labels[-1] else free
    return labels


def draw_layers(canvas: Canvas, panel: Panel, rows: pd.DataFrame, options: Style) -> None:
    """One line per layer, light to dark, with a small layer legend; layer 0 is the input."""
    names = list(map(str, rows["series"].unique()))
    deepest, family = max(map(style.layer_number, names)), panel.look(names[0]).family
    limits = log_limits(rows)
    drawn = _lines(canvas, panel.axes, rows, series_lines(panel, rows), options, floor=limits[0])
    for name, line in drawn.items():
        line.set_label(str(style.layer_number(name) or "input"))
    _finish(canvas, panel.axes, rows)
    canvas.set_ylim(*limits)
    _layer_legend(canvas, deepest, family, options)


def _layer_legend(canvas: Canvas, deepest: int, family: str, options: Style) -> None:
    """A strip of one coloured field per layer in the upper right corner, readable in narrow panels as well."""
    strip = canvas.inset_axes((0.46, 0.86, 0.52, 0.045))
    colours = [style.layer_line(f"layer {layer}", deepest, family)["color"] for layer in range(deepest + 1)]
    strip.imshow([colours], aspect="auto")
    strip.set_xticks(range(deepest + 1), ["in", *map(str, range(1, deepest + 1))], fontsize=options.font_size - 1.5)
    strip.tick_params(length=0, pad=1.5)
    strip.set_yticks([])
    strip.grid(False)
    strip.spines[:].set_visible(False)
    strip.set_title("after layer", fontsize=options.font_size - 0.8, pad=2)


def draw_descent(canvas: Canvas, panel: Panel, rows: pd.DataFrame, options: Style) -> None:
    """A quantity layer by layer: one marker per layer, coloured like the layers of the probes."""
    series = str(rows["series"].iloc[0])
    look = panel.look(series)
    line = style.line(look)
    _lines(canvas, panel.axes, rows, {series: line}, options)
    mean = rows.groupby("x")["y"].mean()
    deepest = int(mean.index.max())
    colours = [style.layer_line(f"layer {int(x)}", deepest, look.family)["color"] for x in mean.index]
    canvas.scatter(mean.index, mean, c=colours, s=16, zorder=4, edgecolors=line["color"], linewidths=0.6)
    _finish(canvas, panel.axes, rows)
    canvas.set_xlim(-0.3 + mean.index.min(), deepest + 0.3)
    canvas.set_ylim(bottom=0)
    canvas.set_xticks(mean.index, ["input" if x == 0 else f"{x:.0f}" for x in mean.index])
    _legend(canvas, options, handlelength=1.5, loc="upper right")


def make_room(canvas: Canvas) -> None:
    """Where the legend of a page that is laid out covers a curve, the y axis ends so high that it stands above all of them."""
    legend = canvas.get_legend()
    assert legend is not None
    covered = legend.get_window_extent()
    paths = [line.get_path().transformed(line.get_transform()) for line in canvas.get_lines()]
    if not any(path.intersects_bbox(covered, filled=False) for path in paths):
        return
    bottom, free = canvas.get_ylim()[0], 0.96 - covered.height / canvas.get_window_extent().height
    if free > 0.3:  # else the curves would be a strip at the bottom
        canvas.set_ylim(top=bottom + (canvas.dataLim.ymax - bottom) / free)
        legend.set_loc("upper left")


def _legend(
    canvas: Canvas, options: Style, handlelength: float, ncols: int = 1, loc: Literal["best", "upper right"] = "best"
) -> None:
    """A legend no wider than the panel: longer names are broken at a space, unless they have formulas."""
    size = options.font_size - 0.8
    page = canvas.get_figure(root=True)
    assert page is not None
    width = canvas.get_position().width * page.get_figwidth() * 72 / ncols
    characters = int((width / size - handlelength - 2) / 0.5)  # letters are about half as wide as high
    lines, names = canvas.get_legend_handles_labels()
    names = [name if "$" in name else textwrap.fill(name, max(characters, 8), break_long_words=False) for name in names]
    canvas.legend(handles=lines, labels=names, loc=loc, handlelength=handlelength, ncols=ncols)


def series_lines(panel: Panel, rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Line properties by series, in the order of the table."""
    names = list(map(str, rows["series"].unique()))
    if panel.kind == "layers":
        deepest, family = max(map(style.layer_number, names)), panel.look(names[0]).family
        return {name: style.layer_line(name, deepest, family) for name in names}
    looks = {name: panel.look(name) for name in names}
    return _shades(looks) if panel.kind == "shades" else {name: style.line(look) for name, look in looks.items()}


def _shades(looks: Mapping[str, Look]) -> dict[str, dict[str, Any]]:
    """Light to dark in the order of the series, grey where one has a line of its own."""
    shaded = [name for name, look in looks.items() if not look.line]
    place = {name: index / max(len(shaded) - 1, 1) for index, name in enumerate(shaded)}
    return {
        name: {"color": style.shade(place[name], lightest=0.32, family=look.family)}
        if name in place
        else style.line(dataclasses.replace(look, colour="#7f7f7f"))
        for name, look in looks.items()
    }


def _lines(
    canvas: Canvas,
    axes: Axes | None,
    rows: pd.DataFrame,
    lines: Mapping[str, Mapping[str, Any]],
    options: Style,
    floor: float = -np.inf,
    **marks: Any,
) -> dict[str, Line2D]:
    """Mean and band (standard deviation over seeds, cut at `floor`) against x, by series; a single seed has no band."""
    import seaborn as sns

    labels(canvas, axes)  # seaborn looks at every tick of an axis without a label
    before, several = len(canvas.lines), rows.duplicated(["series", "x"]).any()
    sns.lineplot(
        rows[["series", "x", "y"]],
        x="x",
        y="y",
        hue="series",
        hue_order=list(lines),
        palette={name: line["color"] for name, line in lines.items()},
        estimator=mean,
        errorbar=functools.partial(band, floor=floor) if options.band and several else None,
        err_kws={"alpha": BAND_ALPHA, "linewidth": 0},
        legend=False,
        ax=canvas,
        **marks,
    )
    drawn = dict(zip(lines, canvas.lines[before:], strict=True))
    for name, line in drawn.items():
        line.set(label=name, **lines[name])
    return drawn


def mean(values: pd.Series) -> float:
    """Over seeds."""
    return float(values.to_numpy().mean())


def band(values: pd.Series, floor: float) -> tuple[float, float]:
    """One sample standard deviation on both sides of the mean, from `floor` on."""
    numbers = values.to_numpy()
    middle, deviation = numbers.mean(), numbers.std(ddof=1)
    return max(middle - deviation, floor), middle + deviation


def _finish(canvas: Canvas, axes: Axes | None, rows: pd.DataFrame) -> None:
    assert axes is not None
    if axes.log:
        logarithmic(canvas)
    lowest, highest = x_limits(axes, rows)
    if highest - lowest <= MOST_TICKS and (rows["x"] % 1 == 0).all():
        canvas.set_xticks(np.arange(lowest, highest + 1))
    elif lowest == 1:  # positions count from 1, which is no round number
        canvas.set_xticks([1, *range(10, int(highest) + 1, 10)])
    canvas.set_xlim(lowest, highest)


def x_limits(axes: Axes, rows: pd.DataFrame) -> tuple[float, float]:
    """The published range, where every curve reaches it, or else that of the values."""
    reach = rows.groupby("series")["x"].max().min()
    published = axes.x_range if axes.x_range and reach >= axes.x_range[1] else None
    lowest, highest = published or (rows["x"].min(), rows["x"].max())
    return float(lowest), float(highest)


class Powers(LogFormatterSciNotation):
    """Powers of ten as plain text, which is set far faster than a formula: ten raised to -2 is written 10⁻²."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        text = super().__call__(x, pos).removeprefix(r"$\mathdefault{").removesuffix("}$")
        return re.sub(r"\^\{(-?\d+)\}", lambda power: power[1].translate(_SUPERSCRIPTS), text).replace(r"\times", "×")


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def logarithmic(canvas: Canvas) -> None:
    """A logarithmic y axis."""
    canvas.set_yscale("log")
    canvas.yaxis.set_major_formatter(Powers())
    canvas.yaxis.set_minor_formatter(Powers(labelOnlyBase=False, minor_thresholds=(1, 0.4)))


def labels(canvas: Canvas, axes: Axes | None) -> None:
    """The labels of both axes."""
    assert axes is not None
    canvas.set_xlabel(axes.x_label)
    canvas.set_ylabel(axes.y_label)


def log_limits(rows: pd.DataFrame) -> tuple[float, float]:
    """Limits around the means; the first position is left out: there a target can be decoded exactly, up to rounding."""
    later = rows[rows["x"] > rows["x"].min()] if rows["x"].nunique() > 1 else rows
    mean = later.groupby(["series", "x"])["y"].mean()
    positive = mean[mean > 0]
    if positive.empty:
        raise InputError("a panel with a logarithmic axis has no positive values")
    lowest, highest = float(positive.min()), float(positive.max())
    return lowest / 1.3, highest * 1.5 * (highest / lowest) ** 0.2  # the legend stands above the highest curve
