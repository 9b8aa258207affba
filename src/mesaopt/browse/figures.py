"""A figure for the page: the panels that are drawn, what its table holds beside them, and published points."""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from mesaopt.agreement.panels import find_panel
from mesaopt.agreement.published import PublishedCurve
from mesaopt.browse.arrays import typed
from mesaopt.browse.curves import curves
from mesaopt.browse.formulas import to_html
from mesaopt.browse.pictures import picture
from mesaopt.figures.draw import shared_ranges
from mesaopt.figures.looks import recorded
from mesaopt.figures.parts import Figure, Panel, Source
from mesaopt.figures.registry import algorithms, figure, runs

#: of the two ways in which probes are scored the one that is drawn; the other is among the controls
SPLIT = "in_sample"
PICTURES = ("matrix", "map")


def figure_of(
    name: str, rows: pd.DataFrame, record: Mapping[str, Any], published: Iterable[PublishedCurve] = ()
) -> dict[str, Any]:
    """Figure `name` from its `figure` table and the JSON beside it.

    Of a panel, `of` names the drawn one whose control it is (`what` says which); "" for a drawn one, and None for what stands in
    the table by itself. Raises `InputError` for a table that does not hold a panel's matrix.
    """
    wanted = figure(name, recorded(record, [*runs(name), *algorithms(name)]))
    shared = shared_ranges(wanted, rows) if wanted.one_scale else {}
    curves_of = list(published)
    panels = []
    for panel, of, what in _placed(wanted):
        found = rows[rows["panel"] == panel.name]
        if len(found):
            placed = dataclasses.replace(panel, largest=shared.get(panel.name))
            panels.append(_panel(placed, of, what, found) | {"published": list(_points(name, panel, curves_of))})
    return {
        "name": name,
        "heading": heading(name),
        "title": wanted.title,
        "seeds": sorted(map(int, rows["seed"].unique())),
        "runs": list(runs(name)),
        "panels": panels,
    }


def heading(name: str) -> str:
    """`v2/fig4` as people say it."""
    version, _, short = name.rpartition("/")
    number = re.fullmatch(r"fig(\d+)", short)
    words = f"Figure {number[1]}" if number else short.replace("-", " ").capitalize()
    return f"{words}, version {version[1:]}" if re.fullmatch(r"v\d+", version) else words


def _placed(wanted: Figure) -> Iterator[tuple[Panel, str | None, str]]:
    """Panels with values, the drawn panel whose control each is, and what kind of control."""
    drawn = {panel.name: panel for panel in wanted.drawn(SPLIT) if panel.sources}
    for panel in (panel for panel in wanted.panels if panel.sources):
        if panel.name in drawn:
            yield panel, "", ""
            continue
        base = max((name for name in drawn if panel.name.startswith(f"{name}_")), key=len, default=None)
        if base is None or drawn[base].kind in PICTURES:
            yield panel, None, ""
        else:
            like = dataclasses.replace(panel, kind=drawn[base].kind, axes=panel.axes or drawn[base].axes)
            yield like, base, panel.name.removeprefix(f"{base}_").replace("_", " ")


def _panel(panel: Panel, of: str | None, what: str, rows: pd.DataFrame) -> dict[str, Any]:
    content = picture(panel, rows) if panel.kind in PICTURES else curves(panel, rows)
    title = panel.title if of is not None else f"{panel.title}: {panel.name.replace('_', ' ')}"
    return {
        "name": panel.name,
        "kind": panel.kind,
        "letter": panel.letter,
        "title": to_html(title),
        "of": of,
        "what": what,
        **content,
    }


def _points(name: str, panel: Panel, published: list[PublishedCurve]) -> Iterator[dict[str, Any]]:
    """The published curves of a panel, and those of a panel of another figure that shows the same values."""
    for curve in published:
        other = find_panel(curve.figure, curve.panel, curve.source)
        if panel.kind == "table" or ((curve.figure, curve.panel) != (name, panel.name) and _values(other) != _values(panel)):
            continue
        flat = bool(curve.values.index.isna().any())
        values = curve.values if flat or curve.reach is None else curve.values.loc[curve.reach[0] : curve.reach[1]]
        x = values.index.to_numpy(dtype="float64")[: 0 if flat else None]
        yield {"series": curve.series, "source": curve.source, "flat": flat, "x": typed(x), "y": typed(values.to_numpy())}


def _values(panel: Panel) -> list[tuple[Any, ...]]:
    """Which values a panel shows, whatever they are called."""

    def of(source: Source) -> tuple[Any, ...]:
        return source.run, source.table, source.x, source.y, source.value, source.select

    return [of(source) for source in panel.sources]
