"""Our curves with the published ones as dots: the panels of one figure that have any."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes as Canvas
from matplotlib.figure import Figure as Page

from mesaopt.agreement.curves import read_folder
from mesaopt.agreement.published import PublishedCurve
from mesaopt.errors import InputError
from mesaopt.figures import style
from mesaopt.figures.draw import DRAWERS, saved
from mesaopt.figures.options import Style
from mesaopt.figures.parts import Panel
from mesaopt.figures.registry import figure
from mesaopt.store.tables import read_table


def overlay_stage(project: Path, name: str, table: Path, folder: Path, options: Mapping[str, Any], out: Path) -> None:
    """Draw the panels of figure `name` that have published curves in `folder`; the format follows the ending of `out`.

    Raises `InputError` in one line for a missing folder, a figure without published curves, and unknown options.
    """
    look = Style.from_dict(options)
    curves = [curve for curve in read_folder(project, folder) if curve.figure == name]
    if not curves:
        raise InputError(f"{name}: no published curve belongs to it (config/published.yaml, {folder})")
    with style.applied(look):
        saved(compose(name, read_table(table, "figure"), curves, look), out)


def compose(name: str, rows: pd.DataFrame, curves: list[PublishedCurve], options: Style) -> Page:
    """The panels with published curves, two in a row."""
    names = {curve.panel for curve in curves}
    panels = [panel for panel in figure(name).panels if panel.name in names and (rows["panel"] == panel.name).any()]
    if not panels:
        raise InputError(f"{name}: none of the panels with published curves is in the table; collect the figure's values again")
    lines = math.ceil(len(panels) / 2)
    page = Page(figsize=(options.width, 0.36 * options.width * lines), layout="constrained")
    places = page.subplots(lines, 2, squeeze=False).ravel()
    for place in places[len(panels) :]:
        place.remove()
    for canvas, panel in zip(places, panels, strict=False):
        _draw(canvas, panel, rows[rows["panel"] == panel.name], [curve for curve in curves if curve.panel == panel.name], options)
    if options.small_print:
        text = "lines and bands: ours, mean and standard deviation over training seeds; dots: published numbers"
        page.supxlabel(text, fontsize=options.font_size - 2, x=0.99, ha="right", color="0.35")
    return page


def _draw(canvas: Canvas, panel: Panel, rows: pd.DataFrame, curves: list[PublishedCurve], options: Style) -> None:
    DRAWERS["curves" if panel.kind == "table" else panel.kind](canvas, panel, rows, options)
    canvas.set_title(panel.title)
    deepest = max((style.layer_number(name) for name in rows["series"].unique() if name.startswith("layer ")), default=0)
    for curve in curves:
        layered, drawn = curve.series.startswith("layer "), panel.look(curve.series)
        colour = (style.layer_line(curve.series, deepest, drawn.family) if layered else style.line(drawn))["color"]
        dots: dict[str, Any] = {"color": colour, "markeredgecolor": "0.15", "markeredgewidth": 0.3, "zorder": 5}
        if curve.values.index.isna().any():
            canvas.plot(canvas.get_xlim()[1], curve.values.iloc[0], "o", markersize=4, clip_on=False, **dots)
            continue
        shown = curve.values if curve.reach is None else curve.values.loc[curve.reach[0] : curve.reach[1]]
        canvas.plot(shown.index, shown, "o", markersize=2.2, **dots)
