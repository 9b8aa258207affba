"""Panels of matrices for the page: weight products and attention maps, in the colours of the drawn figure."""

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.colors import Colormap, to_hex

from mesaopt.browse.arrays import typed
from mesaopt.browse.formulas import to_html
from mesaopt.figures import style
from mesaopt.figures.matrices import square, with_the_future
from mesaopt.figures.parts import Axes, Panel, Slots

#: colours by which a browser draws what lies between
SAMPLES = 17


def picture(panel: Panel, rows: pd.DataFrame) -> dict[str, Any]:
    """The matrix of every seed in `rows` (those of the panel in a `figure` table), range of colours, labels and slots."""
    of_seed = {int(seed): rows[rows["seed"] == seed] for seed in rows["seed"].unique()}
    matrices = {seed: square(panel, with_the_future(of) if panel.kind == "map" else of) for seed, of in of_seed.items()}
    return {
        "matrices": [{"seed": seed, "z": typed(matrix)} for seed, matrix in matrices.items()],
        "first": float(rows["x"].min()),
        **_colours(panel, rows, matrices),
        **_labels(panel, len(next(iter(matrices.values())))),
    }


def _colours(panel: Panel, rows: pd.DataFrame, matrices: dict[int, np.ndarray]) -> dict[str, Any]:
    if panel.kind == "map":
        family = panel.look(str(rows["series"].iloc[0])).family
        return {"limits": [0.0, 1.0], "colours": _scale(style.palette(family))}
    largest = panel.largest or max(float(np.abs(matrix).max()) for matrix in matrices.values()) or 1.0
    return {"limits": [-largest, largest], "colours": _scale(matplotlib.colormaps[style.MATRIX_COLOURS])}


def _scale(colours: Colormap) -> list[list[Any]]:
    return [[share, to_hex(colours(share))] for share in np.linspace(0, 1, SAMPLES).tolist()]


def _labels(panel: Panel, size: int) -> dict[str, Any]:
    axes = panel.axes or Axes("column", "row")
    labels = {"axes": {"x": to_html(axes.x_label), "y": to_html(axes.y_label)}}
    return labels if panel.slots is None else labels | {"slots": _slots(panel.slots, size)}


def _slots(slots: Slots, size: int) -> dict[str, Any]:
    """Names at the middle of blocks, and where blocks end; rows and columns count from 0."""
    block = size / len(slots.shown)
    return {
        "names": [to_html(slots.labels[slot]) for slot in slots.shown],
        "at": [(place + 0.5) * block - 0.5 for place in range(len(slots.shown))],
        "ends": [place * block - 0.5 for place in range(1, len(slots.shown))],
    }
