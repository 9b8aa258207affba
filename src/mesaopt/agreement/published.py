"""Published curves: which file and rows of a folder of tables belong to which series of ours (config/published.yaml), and reading
them. Such folders are not part of this repository; config/README.md documents their form.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mesaopt.agreement.panels import check_series, find_panel
from mesaopt.errors import InputError, unknown
from mesaopt.spec.yaml_files import check, read_yaml, typed

FILE, SCHEMA = Path("config/published.yaml"), Path("workflow/schemas/published.schema.yaml")


@dataclass(frozen=True)
class Entry:
    """Rows of a published file, those where every column of `where` has the given value, and our series that they belong to.

    `series` may hold the name of a column in braces, such as `layer {layer}`: a curve for each of its values. `x` names the
    column of positions ("": there is none, the value is a horizontal line), `y` that of values; `shift` is added to the
    published x; `reach` are the smallest and the largest x that are compared; `sequences` is how many test sequences stand behind
    the published mean (0: not known).
    """

    figure: str
    panel: str
    series: str
    file: str
    where: Mapping[str, str | int | float]
    x: str
    y: str
    shift: float
    reach: tuple[float, float] | None
    sequences: int = 0


@dataclass(frozen=True)
class PublishedCurve:
    """y by x (ascending); a horizontal line has NaN as its only x. `source`: file and rows; `sequences` as in `Entry`."""

    figure: str
    panel: str
    series: str
    source: str
    values: pd.Series
    reach: tuple[float, float] | None
    sequences: int = 0


def read_entries(project: Path) -> list[Entry]:
    """Raises `InputError` in one line for what the schema refuses, and for figures, panels and series that are none."""
    content = typed(read_yaml(project / FILE))
    check(content, read_yaml(project / SCHEMA), FILE.name)
    return [_entry(place, entry) for place, entry in enumerate(content["curves"], 1)]


def _entry(place: int, entry: Mapping[str, Any]) -> Entry:
    where = f"{FILE.name}: curve {place}"
    panel, series = find_panel(entry["figure"], entry["panel"], where), entry["series"]
    if series not in [source.series for source in panel.sources]:  # which may stand for several, like ours
        check_series(panel, series, where)
    low_high = [float(x) for x in entry.get("reach", [])]
    reach = (low_high[0], low_high[1]) if low_high else None
    rows = entry.get("where", {})
    return Entry(
        entry["figure"],
        panel.name,
        series,
        entry["file"],
        rows,
        entry["x"] or "",
        entry["y"],
        float(entry.get("shift", 0)),
        reach,
        int(entry.get("sequences", 0)),
    )


def read_curves(entries: list[Entry], folder: Path) -> Iterator[PublishedCurve]:
    """The curves of all entries whose file is there. Raises `InputError` in one line for a file that has another form."""
    for entry in entries:
        if (folder / entry.file).exists():
            yield from _curves(entry, folder / entry.file)


def _curves(entry: Entry, path: Path) -> Iterator[PublishedCurve]:
    table = _read(path)
    split = [name for name in table.columns if f"{{{name}}}" in entry.series]
    for name in (*entry.where, *split, entry.y, *([entry.x] if entry.x else [])):
        if name not in table.columns:
            raise InputError(f"{path}: {unknown(name, 'column', list(table.columns))} ({FILE.name})")
    for name, wanted in entry.where.items():
        table = table[table[name].map(typed) == wanted]
    if "{" in entry.series and not split:
        raise InputError(f"{path}: no column for {entry.series!r} ({FILE.name})")
    if table.empty:
        raise InputError(f"{path}: no rows with {_words(entry.where)} ({FILE.name})")
    for keys, rows in table.groupby(split) if split else [((), table)]:
        named = dict(zip(split, keys, strict=True))
        source = ", ".join(filter(None, [path.name, _words({**entry.where, **named})]))
        values = _by_x(entry, rows, path)
        series = entry.series.format(**named)
        yield PublishedCurve(entry.figure, entry.panel, series, source, values, entry.reach, entry.sequences)


def _by_x(entry: Entry, rows: pd.DataFrame, path: Path) -> pd.Series:
    """Mean over rows with the same x: published seeds or test batches."""
    y = _numbers(rows[entry.y], path)
    x = _numbers(rows[entry.x], path) + entry.shift if entry.x else pd.Series(np.nan, index=rows.index)
    if y.isna().any():
        raise InputError(f"{path}: column {entry.y} has missing values in the rows with {_words(entry.where)}")
    return y.groupby(x, dropna=False).mean().sort_index()


def _numbers(column: pd.Series, path: Path) -> pd.Series:
    found = pd.to_numeric(column.where(column != "", np.nan), errors="coerce").astype("float64")
    if (wrong := column[found.isna() & (column != "")]).size:
        raise InputError(f"{path}: column {column.name} has {wrong.iloc[0]!r}, which is no number")
    return found


def _read(path: Path) -> pd.DataFrame:
    """A CSV file with a header, all columns as text."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a readable CSV file ({error})") from None
    if len(rows) < 2 or any(len(row) != len(rows[0]) for row in rows):
        raise InputError(f"{path}: not a table: every row needs as many fields as the header, and there must be a row")
    return pd.DataFrame(rows[1:], columns=rows[0], dtype=object)


def _words(where: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in where.items())
