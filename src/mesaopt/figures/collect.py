"""The table of a figure: every drawn value and its controls, gathered from the files of single seeds, and where it comes from."""

import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from mesaopt.errors import InputError
from mesaopt.figures.looks import Looks
from mesaopt.figures.parts import Panel, Slots, Source
from mesaopt.figures.records import describe
from mesaopt.figures.registry import chosen, figure
from mesaopt.store.provenance import write_json
from mesaopt.store.tables import read_table, write_table

#: columns of the `figure` table, in its order
COLUMNS = ["panel", "series", "seed", "x", "y", "value"]


def collect(name: str, results: Path, seeds: Sequence[int], out: Path, provenance: Path, looks: Looks | None = None) -> None:
    """Write the table of figure `name` at `out` and where it comes from (JSON) at `provenance`.

    `results` is the folder of a scale, results/{scale}; `looks` names runs (default: as experiments.yaml does). Raises
    `InputError` in one line for an unknown figure, for missing or damaged files, and for files without the rows that it shows.
    """
    table = gather(name, results, seeds, looks)
    record = describe(name, results, seeds, looks)
    write_table(table, "figure", out)
    write_json(provenance, record)


def gather(name: str, results: Path, seeds: Sequence[int], looks: Looks | None = None) -> pd.DataFrame:
    """All values of figure `name` as a `figure` table: panels and series in the order of the registry, then seeds, then x."""
    if not seeds:
        raise InputError(f"{name}: no seeds to collect")
    read = cache(read_table)  # several panels may show one file
    parts = [
        _values(panel, source, results, seed, read)
        for panel in figure(name, looks).panels
        for source in panel.sources
        for seed in chosen(source.seeds or panel.seeds, seeds)
    ]
    return pd.concat(parts, ignore_index=True)


def _values(panel: Panel, source: Source, results: Path, seed: int, read: Callable[[Path, str], pd.DataFrame]) -> pd.DataFrame:
    path = results / source.path.format(seed=seed)
    frame = _rows(read(path, source.table), source, path)
    if panel.slots is not None:
        frame = _shown(frame, panel.slots, path)
    values = pd.DataFrame(
        {
            "panel": panel.name,
            "series": _series(frame, source.series),
            "seed": seed,
            "x": frame[source.x].astype("float64"),
            "y": frame[source.y].astype("float64"),
            "value": frame[source.value].astype("float64") if source.value else np.nan,
        }
    )
    if source.at is not None:
        values = _one_point(values, source.at, source.per)
    key = ["series", "x", "y"] if source.value else ["series", "x"]
    if values.duplicated(key).any():
        raise InputError(f"{path}: several values of {source.value or source.y} at the same {source.x} for {source.series}")
    return values.sort_values(key, kind="stable")


def _one_point(values: pd.DataFrame, x: float, per: int) -> pd.DataFrame:
    """The mean of the y of a series, over `per`, as its only point."""
    return values.iloc[:1].assign(x=x, y=values["y"].mean() / per)


def _rows(frame: pd.DataFrame, source: Source, path: Path) -> pd.DataFrame:
    chosen_rows = pd.Series(True, index=frame.index)
    for column, wanted in source.select:
        chosen_rows &= _matching(frame[column], wanted)
    if not (chosen_rows.any() or source.optional):
        wanted_rows = ", ".join(f"{column} {value}" for column, value in source.select)
        raise InputError(f"{path}: no rows with {wanted_rows}, which the figure shows")
    return frame[chosen_rows]


def _matching(column: pd.Series, wanted: str | int | tuple[str, ...]) -> pd.Series:
    if wanted == "nonzero":
        return column != 0
    if wanted == "last":
        return column == column.max()
    return column.isin(wanted if isinstance(wanted, tuple) else (wanted,))


def _series(frame: pd.DataFrame, series: str) -> pd.Series:
    match = re.search(r"\{(\w+)\}", series)
    if match is None:
        return pd.Series(series, index=frame.index)
    column = match[1]
    return frame[column].map(lambda value: series.format(**{column: value}))


def _shown(frame: pd.DataFrame, slots: Slots, path: Path) -> pd.DataFrame:
    """The entries in the blocks that are shown; they keep the channel numbers of the whole product."""
    size = int(frame[["row", "col"]].max().max()) + 1
    if size % len(slots.labels) or len(frame) != size * size:
        raise InputError(f"{path}: {len(frame)} entries are no square of {len(slots.labels)} by {len(slots.labels)} blocks")
    block = size // len(slots.labels)
    return frame[(frame["row"] // block).isin(slots.shown) & (frame["col"] // block).isin(slots.shown)]
