"""Panels that show a matrix as a picture: weight products and attention maps, in colours of their own (no seaborn)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes as Canvas
from matplotlib.image import AxesImage

from mesaopt.errors import InputError
from mesaopt.figures import style
from mesaopt.figures.options import Style
from mesaopt.figures.panels import labels
from mesaopt.figures.parts import Panel, Slots


def draw_matrix(canvas: Canvas, panel: Panel, rows: pd.DataFrame, options: Style) -> None:
    """A weight product: colours symmetric about zero; where channels stand in slots, lines between blocks and slot names."""
    matrix = square(panel, rows)
    largest = panel.largest or float(np.abs(matrix).max()) or 1.0
    image = canvas.imshow(matrix, cmap=style.MATRIX_COLOURS, vmin=-largest, vmax=largest, aspect="equal")
    if panel.slots is not None:
        _blocks(canvas, panel.slots, matrix.shape[0], options)
        if panel.slots.means:
            _means(canvas, matrix, len(panel.slots.shown), options.font_size - 2)
    _heat(canvas, panel, image, (-largest, 0.0, largest), options)


def draw_map(canvas: Canvas, panel: Panel, rows: pd.DataFrame, options: Style) -> None:
    """Attention weights, 0 to 1: a row per query position, a column per position that it looks at."""
    matrix = square(panel, with_the_future(rows))
    edges = (0.5, matrix.shape[1] + 0.5, matrix.shape[0] + 0.5, 0.5)  # positions count from 1
    colours = style.palette(panel.look(str(rows["series"].iloc[0])).family)
    image = canvas.imshow(matrix, cmap=colours, vmin=0, vmax=1, aspect="equal", extent=edges)
    _heat(canvas, panel, image, (0.0, 0.5, 1.0), options)


def with_the_future(rows: pd.DataFrame) -> pd.DataFrame:
    """Attention weights with those of later positions, which are zero and in no table."""
    size = int(rows["y"].max())
    later = pd.DataFrame([(t, later) for t in range(1, size + 1) for later in range(t + 1, size + 1)], columns=["y", "x"])
    return pd.concat([rows[["x", "y", "value"]], later.assign(value=0.0)]).drop_duplicates(["x", "y"])


def square(panel: Panel, rows: pd.DataFrame) -> np.ndarray:
    """The cells of a panel as a matrix, rows by y and columns by x. Raises `InputError` unless they are one square matrix."""
    matrix = rows.pivot(index="y", columns="x", values="value")
    if matrix.shape[0] != matrix.shape[1] or matrix.isna().any(axis=None):
        raise InputError(f"panel {panel.name}: the table does not hold one square matrix")
    return matrix.to_numpy()


def _heat(canvas: Canvas, panel: Panel, image: AxesImage, ticks: Sequence[float], options: Style) -> None:
    """What pictures of matrices have around them: a frame, small labels, and a bar of colours."""
    canvas.grid(False)
    canvas.spines[:].set_visible(True)
    canvas.tick_params(labelsize=options.font_size - 1.8)
    labels(canvas, panel.axes)
    canvas.xaxis.label.set_fontsize(options.font_size - 1)
    canvas.yaxis.label.set_fontsize(options.font_size - 1)
    assert canvas.figure is not None
    bar = canvas.figure.colorbar(image, ax=canvas, fraction=0.046, pad=0.04, ticks=list(ticks))
    bar.ax.set_yticklabels([_short(tick) if tick else "0" for tick in ticks], fontsize=options.font_size - 2)
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
    canvas.tick_params(length=0, pad=2)
    for edge in np.arange(1, len(slots.shown)) * block - 0.5:
        canvas.axhline(edge, color="0.55", linewidth=0.4)
        canvas.axvline(edge, color="0.55", linewidth=0.4)


def _means(canvas: Canvas, matrix: np.ndarray, blocks: int, size: float | int) -> None:
    """The mean of every block's diagonal, in the block's upper right corner where a diagonal leaves room."""
    block = matrix.shape[0] // blocks
    for row in range(blocks):
        for col in range(blocks):
            mean = np.diagonal(matrix[row * block : (row + 1) * block, col * block : (col + 1) * block]).mean()
            place = ((col + 1) * block - 0.8, row * block - 0.2)
            canvas.text(*place, f"{mean:z.3f}".replace("-", "−"), ha="right", va="top", fontsize=size, color="0.2")
