"""Panels of curves for the page: axes and lines as in the drawn figure, and the values of every seed."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from mesaopt.browse.arrays import Positions, typed
from mesaopt.browse.formulas import to_html
from mesaopt.errors import InputError
from mesaopt.figures.panels import log_limits, series_lines, top, x_limits
from mesaopt.figures.parts import Axes, Panel

#: pixels; matplotlib's dashes are parts of the width
WIDTH = 2.0
_DASHES = {"-": "solid", "--": "dash", ":": "dot", "-.": "dashdot"}


def curves(panel: Panel, rows: pd.DataFrame) -> dict[str, Any]:
    """Axes, series in the order of the table, and of each series a line per seed (and per batch or head, where there are any).

    `rows` are those of the panel in a `figure` table; where values stand in cells, a line runs along x for every y.
    """
    cells = bool(rows["value"].notna().any())
    part = panel.sources[0].y if cells and panel.sources else ""
    rows = rows.assign(part=rows["y"], y=rows["value"]) if cells else rows.assign(part=np.nan)
    positions = Positions()
    looks = series_lines(panel, rows)
    series = [
        {
            "name": str(name),
            "label": _label(panel, str(name)),
            **look(looks[str(name)]),
            "lines": list(_lines(of, part, positions)),
        }
        for name, of in rows.groupby("series", sort=False)
    ]
    axes = panel.axes or _plain_axes(panel, cells)
    return {"axes": _axes(panel, axes, rows), "series": series, "xs": positions.kept, "part": part}


def _label(panel: Panel, series: str) -> str:
    return "input" if panel.kind == "layers" and series == "layer 0" else to_html(series)


def _lines(rows: pd.DataFrame, part: str, positions: Positions) -> Iterator[dict[str, Any]]:
    for _, found in rows.groupby(["seed", "part"], sort=False, dropna=False):
        line = found.sort_values("x", kind="stable")
        named = {"part": f"{part} {line['part'].iloc[0]:g}"} if part else {}
        yield {
            "seed": int(line["seed"].iloc[0]),
            **named,
            "x": positions.place(line["x"].to_numpy()),
            "y": typed(line["y"].to_numpy()),
        }


def look(line: Mapping[str, Any]) -> dict[str, str]:
    """Colour and dashes of matplotlib's line properties, in plotly's words."""
    style = line.get("linestyle", "-")
    dash = _DASHES[style] if isinstance(style, str) else ",".join(f"{part * WIDTH:g}px" for part in style[1])
    return {"colour": to_hex(line["color"]), "dash": dash}


def _plain_axes(panel: Panel, cells: bool) -> Axes:
    """Of a panel that no figure draws: the columns that its values come from."""
    if not panel.sources:
        return Axes("x", "y")
    source = panel.sources[0]
    return Axes(source.x, source.value if cells else source.y)


def _axes(panel: Panel, axes: Axes, rows: pd.DataFrame) -> dict[str, Any]:
    """Labels, ranges and scale as the figure has them; no range of y: from 0 to wherever curves reach."""
    found: dict[str, Any] = {"x": to_html(axes.x_label), "y": to_html(axes.y_label), "log": axes.log}
    low, high = x_limits(axes, rows)
    margin = 0.3 if panel.kind == "descent" else 0.0
    found["x_range"] = [low - margin, high + margin] if high > low and panel.kind != "sweep" else None
    if axes.log:
        found["y_range"] = _log_range(rows)
    elif highest := top(axes, rows):
        found["y_range"] = [0.0, float(highest)]
    if panel.kind == "descent":
        found["ticks"] = [["input" if x == 0 else f"{x:g}" for x in sorted(rows["x"].unique())], sorted(rows["x"].unique())]
    return found


def _log_range(rows: pd.DataFrame) -> list[float] | None:
    try:
        return list(log_limits(rows))
    except InputError:  # nothing positive, which only a control may have
        return None
