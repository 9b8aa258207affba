"""Claims computed on published curves, by the code that computes them on ours."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mesaopt.agreement.claims import Claim, Claims
from mesaopt.agreement.curves import read_folder
from mesaopt.agreement.published import PublishedCurve
from mesaopt.agreement.selections import NotMeasured, values_by_seed
from mesaopt.agreement.words import number

#: published curves are means over seeds or test batches: one curve, as if of one seed
ONE = 0
#: a typed value may differ by this part of it from the one that a folder gives: it was rounded
ROUNDING = 0.02


class PublishedFigures:
    """Published curves as the `figure` tables of `selections`."""

    def __init__(self, curves: Sequence[PublishedCurve]) -> None:
        frames = {name: [_rows(one, curves) for one in curves if one.figure == name] for name in {one.figure for one in curves}}
        self._figures = {name: pd.concat(rows, ignore_index=True) for name, rows in frames.items()}

    def figure(self, name: str) -> pd.DataFrame:
        """Columns panel, series, seed, x, y and value. Raises `NotMeasured` when there is no published curve of it."""
        if name not in self._figures:
            raise NotMeasured(f"there is no published curve of {name}")
        return self._figures[name]


def _rows(curve: PublishedCurve, others: Iterable[PublishedCurve]) -> pd.DataFrame:
    """A horizontal line has a value at every x of its panel."""
    x, y = curve.values.index.to_numpy(float), curve.values.to_numpy(float)
    if np.isnan(x).any():
        here = [other for other in others if (other.figure, other.panel) == (curve.figure, curve.panel)]
        x = np.unique(np.concatenate([other.values.index.to_numpy(float) for other in here]))
        x, y = x[~np.isnan(x)], np.full((~np.isnan(x)).sum(), y[0])
    return pd.DataFrame({"panel": curve.panel, "series": curve.series, "seed": ONE, "x": x, "y": y, "value": np.nan})


def published_values(project: Path, folder: Path, claims: Claims) -> dict[str, float]:
    """Claim -> its statistic of the published numbers in `folder`, of the claims whose curves are all there.

    Prints a line for every value in claims.yaml that the folder contradicts. Raises `InputError` as `read_folder` does.
    """
    figures = PublishedFigures(read_folder(project, folder))
    found = {claim.name: value for claim in claims.claims if (value := _value(claim, figures)) is not None}
    for line in contradictions(claims, found):
        print(line)
    return found


def _value(claim: Claim, figures: PublishedFigures) -> float | None:
    try:
        return values_by_seed(claim, figures)[ONE]
    except NotMeasured:
        return None


def published_value(claim: Claim, computed: float) -> float:
    """The value in claims.yaml where there is one and what was `computed` (NaN: nothing was) is that up to rounding."""
    if claim.published is None or abs(computed - claim.published.value) > ROUNDING * abs(computed):
        return computed
    return claim.published.value


def contradictions(claims: Claims, found: Mapping[str, float]) -> list[str]:
    """A line for every typed value that is not, up to rounding, the one that was found."""
    return [
        f"claims.yaml: {claim.name}: {number(claim.published.value)} is typed as the published value;"
        f" the folder's is {number(value)}"
        for claim in claims.claims
        if claim.published and (value := found.get(claim.name)) is not None
        if published_value(claim, value) != claim.published.value
    ]
