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
    canvas.legend(
        title="after layer", ncol=deepest + 1, handlelength=0.9, handletextpad=0.3, columnspacing=0.7, loc="upper center"
    )


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
    _blocks(canvas, panel.slots, matrix.shape[0])
    _labels(canvas, panel.axes)
    bar = canvas.figure.colorbar(image, ax=canvas, fraction=0.046, pad=0.04, ticks=[-largest, 0, largest])
    bar.ax.set_yticklabels([_short(-largest), "0", _short(largest)], fontsize=options.font_size - 2)
    bar.ax.tick_params(length=1.5, pad=1.5)
    bar.outline.set_linewidth(0.4)  # type: ignore[operator]


def _short(value: float) -> str:
    return f"{value:.2g}".replace("-", "−")


def _blocks(canvas: Canvas, slots: Slots, size: int) -> None:
    block = size / len(slots.shown)
    centres = (np.arange(len(slots.shown)) + 0.5) * block - 0.5
    names = [slots.labels[slot] for slot in slots.shown]
    canvas.set_xticks(centres, names)
    canvas.set_yticks(centres, names, rotation=90, va="center")
    canvas.tick_params(length=0)
    canvas.grid(False)
    for edge in np.arange(1, len(slots.shown)) * block - 0.5:
        canvas.axhline(edge, color="0.55", linewidth=0.4)
        canvas.axvline(edge, color="0.55", linewidth=0.4)
    canvas.spines[:].set_visible(True)


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
    canvas.set_xlim(published or (rows["x"].min(), rows["x"].max()))


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
    return float(positive.min()) / 1.3, float(positive.max()) * 2.5
