"""One function per kind of panel: each draws the rows of its panel (a `figure` table) into axes."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes as Canvas

from mesaopt.errors import InputError
from mesaopt.figures import style
from mesaopt.figures.options import Style
from mesaopt.figures.parts import Axes, Panel, Slots

BAND_ALPHA = 0.22


def draw_curves(canvas: Canvas, panel: Panel, rows: pd.DataFrame, options: Style) -> None:
    """One line per series: mean over seeds, band of one standard deviation."""
    for series, values in rows.groupby("series", sort=False):
        _line(canvas, values, str(series), style.line(str(series)), options)
    _finish(canvas, panel.axes, rows)
    canvas.set_ylim(bottom=0)
    canvas.legend(loc="best", handlelength=2.2)


def draw_layers(canvas: Canvas, panel: Panel, rows: pd.DataFrame, options: Style) -> None:
    """One line per layer, light to dark, with a small layer legend; layer 0 is the input."""
    deepest = max(style.layer_number(series) for series in rows["series"].unique())
    limits = _log_limits(rows)
    for series, values in rows.groupby("series", sort=False):
        number = style.layer_number(str(series))
        _line(canvas, values, str(number or "input"), style.layer_line(str(series), deepest), options, floor=limits[0])
    _finish(canvas, panel.axes, rows)
    canvas.set_ylim(*limits)
    _layer_legend(canvas, deepest, options)


def _layer_legend(canvas: Canvas, deepest: int, options: Style) -> None:
    """A strip of one coloured field per layer in the upper right corner, readable in narrow panels as well."""
    strip = canvas.inset_axes((0.46, 0.86, 0.52, 0.045))
    colours = [style.layer_line(f"layer {layer}", deepest)["color"] for layer in range(deepest + 1)]
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
    _line(canvas, rows, series, style.line(series), options)
    mean = rows.groupby("x")["y"].mean()
    deepest = int(mean.index.max())
    colours = [style.layer_line(f"layer {int(x)}", deepest)["color"] for x in mean.index]
    canvas.scatter(mean.index, mean, c=colours, s=16, zorder=4, edgecolors=style.line(series)["color"], linewidths=0.6)
    _finish(canvas, panel.axes, rows)
    canvas.set_xlim(-0.3 + mean.index.min(), deepest + 0.3)
    canvas.set_ylim(bottom=0)
    canvas.set_xticks(mean.index, ["input" if x == 0 else f"{x:.0f}" for x in mean.index])
    canvas.legend(loc="upper right", handlelength=1.5)


def draw_matrix(canvas: Canvas, panel: Panel, rows: pd.DataFrame, options: Style) -> None:
    """A weight product: colours symmetric about zero, lines between blocks, slot names at their centres."""
    matrix = rows.pivot(index="y", columns="x", values="value")
    if matrix.shape[0] != matrix.shape[1] or matrix.isna().any(axis=None):
        raise InputError(f"panel {panel.name}: the table does not hold one square matrix")
    largest = float(np.abs(matrix.to_numpy()).max()) or 1.0
    image = canvas.imshow(matrix.to_numpy(), cmap=style.MATRIX_COLOURS, vmin=-largest, vmax=largest, aspect="equal")
    assert panel.slots is not None and canvas.figure is not None
    _blocks(canvas, panel.slots, matrix.shape[0], options)
    if panel.slots.means:
        _means(canvas, matrix.to_numpy(), len(panel.slots.shown), options.font_size - 2)
    _labels(canvas, panel.axes)
    canvas.xaxis.label.set_fontsize(options.font_size - 1)
    canvas.yaxis.label.set_fontsize(options.font_size - 1)
    bar = canvas.figure.colorbar(image, ax=canvas, fraction=0.046, pad=0.04, ticks=[-largest, 0, largest])
    bar.ax.set_yticklabels([_short(-largest), "0", _short(largest)], fontsize=options.font_size - 2)
    bar.ax.tick_params(length=1.5, pad=1.5)
    bar.outline.set_linewidth(0.4)  # type: ignore[operator]


def _short(value: float) -> str:
    return f"{value:.2g}".replace("-", "−")


def _blocks(canvas: Canvas, slots: Slots, size: int, options: Style) -> None:
    block = size / len(slots.shown)
    centres = (np.arange(len(slots.shown)) + 0.5) * block - 0.5
    names = [slots.labels[slot] for slot in slots.shown]
    canvas.set_xticks(centres, names)
    canvas.set_yticks(centres, names, rotation=90, va="center")
    canvas.tick_params(length=0, pad=2, labelsize=options.font_size - 1.8)
    canvas.grid(False)
    for edge in np.arange(1, len(slots.shown)) * block - 0.5:
        canvas.axhline(edge, color="0.55", linewidth=0.4)
        canvas.axvline(edge, color="0.55", linewidth=0.4)
    canvas.spines[:].set_visible(True)


def _means(canvas: Canvas, matrix: np.ndarray, blocks: int, size: float | int) -> None:
    """The mean of every block's diagonal, in the block's upper right corner where a diagonal leaves room."""
    block = matrix.shape[0] // blocks
    for row in range(blocks):
        for col in range(blocks):
            mean = np.diagonal(matrix[row * block : (row + 1) * block, col * block : (col + 1) * block]).mean()
            place = ((col + 1) * block - 0.8, row * block - 0.2)
            canvas.text(*place, f"{mean:z.3f}".replace("-", "−"), ha="right", va="top", fontsize=size, color="0.2")


def _line(canvas: Canvas, values: pd.DataFrame, label: str, line: dict, options: Style, floor: float = -np.inf) -> None:
    """Mean and band (sample standard deviation over seeds, cut at `floor`) against x; a single seed has no band."""
    over_seeds = values.groupby("x")["y"]
    mean, deviation = over_seeds.mean(), over_seeds.std()
    canvas.plot(mean.index, mean, label=label, **line)
    if options.band and deviation.notna().any():
        lower = (mean - deviation).clip(lower=floor)
        canvas.fill_between(mean.index, lower, mean + deviation, color=line["color"], alpha=BAND_ALPHA, linewidth=0)


def _finish(canvas: Canvas, axes: Axes | None, rows: pd.DataFrame) -> None:
    assert axes is not None
    _labels(canvas, axes)
    if axes.log:
        canvas.set_yscale("log")
    # every curve must reach the published range before the axis may end there
    reach = rows.groupby("series")["x"].max().min()
    published = axes.x_range if axes.x_range and reach >= axes.x_range[1] else None
    lowest, highest = published or (rows["x"].min(), rows["x"].max())
    if lowest == 1:  # positions count from 1, which is no round number
        canvas.set_xticks([1, *range(10, int(highest) + 1, 10)])
    canvas.set_xlim(lowest, highest)


def _labels(canvas: Canvas, axes: Axes | None) -> None:
    assert axes is not None
    canvas.set_xlabel(axes.x_label)
    canvas.set_ylabel(axes.y_label)


def _log_limits(rows: pd.DataFrame) -> tuple[float, float]:
    """Limits around the means; the first position is left out: there a target can be decoded exactly, up to rounding."""
    later = rows[rows["x"] > rows["x"].min()] if rows["x"].nunique() > 1 else rows
    mean = later.groupby(["series", "x"])["y"].mean()
    positive = mean[mean > 0]
    if positive.empty:
        raise InputError("a panel with a logarithmic axis has no positive values")
    lowest, highest = float(positive.min()), float(positive.max())
    return lowest / 1.3, highest * 1.5 * (highest / lowest) ** 0.2  # the legend stands above the highest curve
