"""A figure's picture from its table: PDF, PNG or SVG. Same table, style and versions, same bytes."""

import dataclasses
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes as Canvas
from matplotlib.figure import Figure as Page

from mesaopt.errors import InputError
from mesaopt.figures import matrices, panels, style
from mesaopt.figures.contents import both_forms
from mesaopt.figures.looks import recorded
from mesaopt.figures.options import Style
from mesaopt.figures.parts import Figure, Panel
from mesaopt.figures.records import mixed_environments, read_json
from mesaopt.figures.registry import algorithms, figure, runs
from mesaopt.figures.schematic import draw_schematic
from mesaopt.store.tables import atomic_path, read_table

DRAWERS = {
    "curves": panels.draw_curves,
    "measured": panels.draw_measured,
    "shades": panels.draw_shades,
    "layers": panels.draw_layers,
    "descent": panels.draw_descent,
    "matrix": matrices.draw_matrix,
    "map": matrices.draw_map,
    "sweep": panels.draw_sweep,
}
#: what would make two files of the same picture differ
UNDATED: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "ModDate": None},
    "png": {"Software": None},
    "svg": {"Date": None},
}


def draw(name: str, table: Path, provenance: Path, options: Mapping[str, Any], out: Path, strict: bool = False) -> None:
    """Draw figure `name` from its `figure` table; the format follows the ending of `out`. `options` are those of `Style`.

    Raises `InputError` in one line for an unknown figure, format or option, for a table without the figure's panels, and if
    `strict` for results of different environments.
    """
    _kind(out)
    chosen_style = Style.from_dict(options)
    behind = [*runs(name), *algorithms(name)]
    rows, record = read_table(table, "figure"), read_json(provenance)
    if strict and (mixed := mixed_environments(record)):
        raise InputError(f"{name}: its results come from {mixed}, which strict_environment refuses; make them again in one")
    # settings count when things are made and again when they are saved
    with style.applied(chosen_style):
        saved(compose(figure(name, recorded(record, behind)), rows, record, chosen_style), out)


def saved(page: Page, out: Path) -> None:
    """Save a page at `out` without anything that would make two files of the same picture differ."""
    kind = _kind(out)
    with atomic_path(out) as temporary:
        page.savefig(temporary, format=kind, metadata=UNDATED[kind])


def _kind(out: Path) -> str:
    kind = out.suffix.removeprefix(".")
    if kind not in UNDATED:
        raise InputError(f"{out}: a figure is one of {', '.join(UNDATED)}, not {kind or 'a file without ending'}")
    return kind


def compose(wanted: Figure, rows: pd.DataFrame, record: Mapping[str, Any], options: Style) -> Page:
    """The figure as a matplotlib figure; `record` is the provenance that `collect` writes."""
    page = Page(figsize=(options.width, options.width * wanted.aspect), layout="constrained")
    places = page.subplot_mosaic(
        [list(row) for row in wanted.layout],
        width_ratios=list(wanted.width_ratios) or None,
        height_ratios=list(wanted.height_ratios) or None,
    )
    shared = shared_ranges(wanted, rows) if wanted.one_scale else {}
    drawn = wanted.drawn(options.probe_split, options.probe_form)
    for panel in drawn:
        panel = dataclasses.replace(panel, largest=shared.get(panel.name))
        _draw_panel(places[panel.place], panel, rows[rows["panel"] == panel.name], options)
    if options.small_print:
        text = textwrap.fill(small_print(wanted, record, options), _line_length(options))
        page.supxlabel(text, fontsize=options.font_size - 2, x=0.99, ha="right", color="0.35")
    # many shades have a large legend; where the best place for it lies, and how much it hides there, only a layout shows
    crowded = [places[panel.place] for panel in drawn if panel.kind == "shades" and places[panel.place].get_legend()]
    if crowded:
        page.draw_without_rendering()
    for canvas in crowded:
        panels.make_room(canvas)
    return page


def shared_ranges(wanted: Figure, rows: pd.DataFrame) -> dict[str, float]:
    """The largest entry of a row of matrices, by the name of each panel in it."""
    pictures = rows[rows["panel"].isin([panel.name for panel in wanted.panels if panel.kind == "matrix"])]
    largest = pictures["value"].abs().groupby(pictures["panel"]).max().to_dict()
    row_of = {
        panel.name: [name for name in row if name in largest]
        for row in wanted.layout
        for panel in wanted.panels
        if panel.place in row
    }
    return {name: max(largest[other] for other in others) for name, others in row_of.items() if name in largest}


def _line_length(options: Style) -> int:
    """Characters of small print that fit beside each other: they are about half as wide as high."""
    return int(options.width * 72 / (0.55 * (options.font_size - 2)))


def _draw_panel(canvas: Canvas, panel: Panel, rows: pd.DataFrame, options: Style) -> None:
    canvas.set_title(panel.title)
    if panel.letter:
        _letter(canvas, panel.letter, options.font_size)
    if panel.kind == "schematic":
        draw_schematic(canvas, options.font_size)
        return
    if rows.empty and (not panel.sources or all(source.optional for source in panel.sources)):
        panels.draw_nothing(canvas, options)
        return
    needed = [source.series for source in panel.sources if "{" not in source.series and not source.optional]
    missing = [series for series in needed if not (rows["series"] == series).any()]
    if rows.empty or missing:
        raise InputError(
            f"panel {panel.name}: no {', '.join(missing) or 'values'} in the table; collect the figure's values again"
        )
    DRAWERS[panel.kind](canvas, panel, rows, options)


def _letter(canvas: Canvas, letter: str, size: float | int) -> None:
    """The panel's letter above its upper left corner, left of a centred title however narrow the panel is."""
    away = -3.2 * size if canvas.axison else 0
    font: dict[str, Any] = {"fontweight": "bold", "fontsize": size + 2, "va": "bottom", "ha": "left"}
    canvas.annotate(letter, (0, 1), (away, 4), xycoords="axes fraction", textcoords="offset points", **font)


def small_print(wanted: Figure, record: Mapping[str, Any], options: Style) -> str:
    """One line: scale, seeds, what band, weights and probes show, environments if there were several, commit."""
    seeds = record.get("seeds", [])
    drawn = wanted.drawn(options.probe_split, options.probe_form)
    parts = [f"scale {record.get('scale', 'unknown')}"]
    if any(panel.seeds == "all" and panel.sources for panel in drawn):
        parts.append(f"{len(seeds)} seed{'' if len(seeds) == 1 else 's'}")
        parts += ["lines: mean, bands: one standard deviation over seeds"] * (options.band and len(seeds) > 1)
    for kind, what in (("matrix", "weights"), ("map", "attention")):
        if seeds and any(panel.kind == kind for panel in drawn):
            parts.append(f"{what}: seed {seeds[0]}")
    if any(panel.split for panel in drawn):
        parts.append("probes scored " + {"in_sample": "in sample", "held_out": "on held-out sequences"}[options.probe_split])
    parts += _left_out(drawn, record)
    if any(panel.form for panel in drawn):
        parts.append(f"preconditioned input {_form(record, options)}")
    parts += [f"made in {mixed}"] if (mixed := mixed_environments(record)) else []
    return "  ·  ".join([*parts, _commit(record)])


def _form(record: Mapping[str, Any], options: Style) -> str:
    """Tables that were recorded before both forms were computed hold that of the text alone, under the name of the drawn one."""
    both = both_forms(record.get("where", {}).get("panels", ()))
    return "as published" if both and options.probe_form == "published" else "as in the text"


def _left_out(drawn: Iterable[Panel], record: Mapping[str, Any]) -> list[str]:
    """Lines that the scale does without, and where runs that it does without would have the points of other lines."""
    sources = [source for panel in drawn for source in panel.sources if source.optional and source.at is not None]
    there = {source.series for source in sources if source.run in record.get("runs", {})}
    lines = dict.fromkeys(source.series for source in sources if source.series not in there)
    points = {of.at for of in sources if of.at and of.series in there and of.run not in record.get("runs", {})}
    said = [f"left out: {', '.join(lines)}"] if lines else []
    return said + ([f"left out at {', '.join(f'{x:g}' for x in sorted(points))}"] if points else [])


def _commit(record: Mapping[str, Any]) -> str:
    if record.get("runs", True) == {}:
        return "nothing trained"
    commits = [str(commit)[:8] for commit in record.get("commits", [])]
    if record.get("dirty", False) is None or not commits:  # git did not say, at least for some
        commits = [*dict.fromkeys([*commits, "unknown"])]
    changed = ", uncommitted changes" if record.get("dirty") else ""
    return f"commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}{changed}"
