"""The curves that claims select from the tables of figures, per training seed."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import pandas as pd

from mesaopt.agreement.claims import Claim, Selection, settings_of
from mesaopt.agreement.statistics import Curve
from mesaopt.figures.records import read_json
from mesaopt.spec.files import RECORD
from mesaopt.store.tables import read_table


class NotMeasured(Exception):
    """A claim's table, panel, series or positions are not there; the message says which."""


@runtime_checkable
class Figures(Protocol):
    """Where the values behind figures come from."""

    def figure(self, name: str) -> pd.DataFrame:
        """The `figure` table of that name. Raises `NotMeasured` when there is none."""
        ...


class Tables:
    """The `figure` tables of a folder, each read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, pd.DataFrame] = {}

    def figure(self, name: str) -> pd.DataFrame:
        """Raises `NotMeasured` when there is no such table, `InputError` when it is damaged."""
        if name not in self._read:
            path = self._folder / f"{name}.parquet"
            if not path.exists():
                raise NotMeasured(f"there is no table of {name}")
            self._read[name] = read_table(path, "figure")
        return self._read[name]

    def scale(self, name: str, folder: str) -> str:
        """The scale at which the table of a figure was made, in the folder of a scale: of a recorded one its record says it."""
        path = self._folder.parent / RECORD.place.format(figure=name)
        if folder != "recorded" or not path.exists():
            return settings_of(folder)
        return str(read_json(path).get("scale", settings_of(folder)))


def values_by_seed(claim: Claim, tables: Figures) -> dict[int, float]:
    """The claim's statistic for every training seed that has all its curves.

    Raises `NotMeasured` when one of the curves is missing for all seeds or the statistic is no finite number.
    """
    sides = [select(tables.figure(selection.figure), selection) for selection in claim.selections]
    seeds = [seed for seed in sides[0] if all(seed in side for side in sides)]
    if not seeds:
        raise NotMeasured("its two sides have no training seed in common")
    values = {seed: claim.measured.function(sides[0][seed], sides[1][seed] if len(sides) > 1 else []) for seed in seeds}
    for seed, value in values.items():
        if not abs(value) < float("inf"):
            raise NotMeasured(f"{claim.statistic} is no finite number for seed {seed}")
    return values


def select(table: pd.DataFrame, selection: Selection) -> dict[int, list[Curve]]:
    """Seed -> curves in the order of the selection, of the seeds that have all of them. Raises `NotMeasured` if none has.

    Where a panel's values have two coordinates, a curve is over the first and the mean over the second (of structure
    statistics: a curve over layers of means over heads).
    """
    panel = table[table["panel"] == selection.panel]
    if panel.empty:
        raise NotMeasured(f"the table of {selection.figure} has no panel {selection.panel}")
    for name in selection.series:
        if not (panel["series"] == name).any():
            raise NotMeasured(f"panel {selection.panel} of {selection.figure} has no {name}")
    rows = panel[panel["series"].isin(selection.series)]
    measured = rows["value"].where(rows["value"].notna(), rows["y"])
    curves = measured.groupby([rows["seed"], rows["series"], rows["x"]]).mean()
    found = {int(seed): _of_seed(curves.loc[seed], selection) for seed in rows["seed"].unique()}
    complete = {seed: of for seed, of in found.items() if len(of) == len(selection.series)}
    if not complete:
        raise NotMeasured(f"panel {selection.panel} of {selection.figure} has no values at {_place(selection)}")
    return complete


def _of_seed(curves: pd.Series, selection: Selection) -> list[Curve]:
    here = set(curves.index.get_level_values("series"))
    cut = [_cut(curves.loc[name], selection) for name in selection.series if name in here]
    return [curve for curve in cut if len(curve)]


def _cut(curve: Curve, selection: Selection) -> Curve:
    if selection.x == "last":
        return curve.iloc[-1:]
    return curve if selection.x is None else curve.loc[selection.x[0] : selection.x[1]]


def _place(selection: Selection) -> str:
    if isinstance(selection.x, tuple):
        return f"x = {selection.x[0]:g} to {selection.x[1]:g}"
    return "any x for all its series"
