"""Our curves against the published ones: how many points agree, and where the two are farthest apart."""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from mesaopt.agreement.claims import Selection
from mesaopt.agreement.published import PublishedCurve, read_curves, read_entries
from mesaopt.agreement.selections import NotMeasured, Tables, select
from mesaopt.errors import InputError
from mesaopt.store.tables import write_table

#: a point agrees within this many standard deviations of ours over seeds, and of the published mean over its test sequences where
#: it is known of how many, or this part of the published value, whichever is more
DEVIATIONS, PART = 2, 0.1


def compare_curves_stage(project: Path, tables: Path, folder: Path, out: Path) -> None:
    """Write table `curves` at `out`: every published curve in `folder` whose series is in the figure tables of `tables`.

    Prints a line for those that are not. Raises `InputError` in one line when `folder` is missing or has files of another form,
    and when there is nothing to compare.
    """
    published = read_folder(project, folder)
    rows = list(compare(published, Tables(tables)))
    if not rows:
        raise InputError(f"none of the {len(published)} curves in {folder} has a series of ours in {tables}")
    write_table(pd.DataFrame(rows), "curves", out)


def read_folder(project: Path, folder: Path) -> list[PublishedCurve]:
    """The published curves in `folder`. Raises `InputError` in one line when it holds none that config/published.yaml names."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder (published_tables)")
    curves = list(read_curves(read_entries(project), folder))
    if not curves:
        raise InputError(f"{folder}: none of the files that config/published.yaml names (published_tables)")
    return curves


def compare(published: Iterable[PublishedCurve], tables: Tables) -> Iterator[dict[str, str | int | float]]:
    """A row of table `curves` per published curve; a line is printed for those without a counterpart."""
    missing: dict[str, list[str]] = {}
    for curve in published:
        try:
            ours = ours_by_seed(curve, tables)
            yield _row(curve, ours, sampling_error(curve, ours, tables))
        except NotMeasured as error:
            missing.setdefault(str(error), []).append(curve.series)
    for reason, series in missing.items():
        print(f"not compared, {reason}: {', '.join(dict.fromkeys(series))}")


def ours_by_seed(curve: PublishedCurve, tables: Tables) -> pd.DataFrame:
    """Our values at the x of a published curve: a column per seed, and x as the index. Raises `NotMeasured`."""
    selection = Selection(curve.figure, curve.panel, (curve.series,), curve.reach)
    found = select(tables.figure(curve.figure), selection)
    ours = pd.DataFrame({seed: curves[0] for seed, curves in found.items()}).dropna()
    if curve.values.index.notna().all():
        ours = ours[ours.index.isin(curve.values.index)]
    if ours.empty:
        raise NotMeasured(f"no x of {curve.source} is among ours")
    return ours


def sampling_error(curve: PublishedCurve, ours: pd.DataFrame, tables: Tables) -> pd.Series:
    """By x, the standard error of a published mean over its own test sequences, from how much single sequences differ for our
    models (the root mean square over seeds), as a part of the value; NaN where it is not known. Of heavy tails it is a rough
    number.
    """
    unknown = pd.Series(np.nan, index=ours.index)
    if not curve.sequences:
        return unknown
    try:
        errors, counts = (_beside(curve, what, tables) for what in ("error", "sequences"))
    except NotMeasured:
        return unknown
    deviation = ((errors**2 * counts).mean(axis=1) ** 0.5).reindex(ours.index)
    return deviation / ours.mean(axis=1) / curve.sequences**0.5


def _beside(curve: PublishedCurve, what: str, tables: Tables) -> pd.DataFrame:
    """What the tables hold beside our curve's panel, as `ours_by_seed`."""
    return ours_by_seed(dataclasses.replace(curve, panel=f"{curve.panel}_{what}"), tables)


def _row(curve: PublishedCurve, ours: pd.DataFrame, error: pd.Series) -> dict[str, str | int | float]:
    mean, deviation = ours.mean(axis=1), ours.std(axis=1)
    flat = curve.values.index.isna().any()
    theirs = pd.Series(curve.values.iloc[0], index=mean.index) if flat else curve.values.reindex(mean.index)
    spread = np.hypot(deviation.fillna(0), (error * theirs.abs()).fillna(0))
    allowed = np.maximum(DEVIATIONS * spread, PART * theirs.abs())
    gap = mean / theirs - 1
    farthest = int(gap.abs().argmax())
    return {
        "figure": curve.figure,
        "panel": curve.panel,
        "series": curve.series,
        "published": curve.source,
        "seeds": ours.shape[1],
        "points": len(ours),
        "within": float(((mean - theirs).abs() <= allowed).mean()),
        "largest_gap": float(gap.iloc[farthest]),
        "at": float(mean.index[farthest]),
        "deviation": float(deviation.iloc[farthest] / mean.iloc[farthest]),
        "published_error": float(error.iloc[farthest]),
    }
