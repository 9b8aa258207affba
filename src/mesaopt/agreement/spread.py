"""How wide curves are over training seeds, and how wide over test batches: bands of most published curves are of the second kind.

Figure tables hold some curves batch by batch (panels `{panel}_test_batches`). Where all seeds were tested on the same batches,
seeds and batches are crossed, and the spread over one is measured with the other held fixed: the standard deviation over seeds is
computed batch by batch, that over batches seed by seed, and each is the root mean square of these. Elsewhere one seed alone was
tested batch by batch. The spread of the drawn curve is always there; in it every seed has test sequences of its own, so it holds
what seeds and what sequences do. All spreads are parts of the curve's mean at the same x, averaged over x.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mesaopt.agreement.selections import NotMeasured, Tables
from mesaopt.figures.parts import Panel
from mesaopt.figures.registry import figure
from mesaopt.store.tables import TABLES, write_table

SUFFIX = "_test_batches"
#: what stands behind a seed's value in a drawn curve: losses along a training are means over the training's own test batches
SEQUENCES, MEANS = "own sequences", "mean of own batches"
#: values below this part of a curve's largest are rounding (with one observed token probes decode some targets exactly)
ROUNDING = 1e-8


def spread_stage(tables: Path, figures: Sequence[str], out: Path) -> None:
    """Write table `spread` at `out`, of those of `figures` whose tables are in the folder `tables`; it may have no rows.

    Raises `InputError` in one line for an unknown figure or a damaged table.
    """
    write_table(spread(Tables(tables), figures), "spread", out)


def spread(tables: Tables, figures: Sequence[str]) -> pd.DataFrame:
    """Table `spread`: a row per curve that is there batch by batch, in the order of the registry."""
    rows = [row for name in figures for row in _of_figure(name, tables)]
    kinds = {column: "object" if kind == "string" else kind for column, kind in TABLES["spread"].items()}
    return pd.DataFrame(rows, columns=list(kinds)).astype(kinds)


def _of_figure(name: str, tables: Tables) -> Iterator[dict[str, Any]]:
    panels = [panel for panel in figure(name).panels if panel.name.endswith(SUFFIX)]
    try:
        table = tables.figure(name)
    except NotMeasured:
        return
    for panel in panels:
        cells, drawn = (table[table["panel"] == of] for of in (panel.name, panel.name.removesuffix(SUFFIX)))
        for series in cells["series"].unique():
            names = {"figure": name, "panel": panel.name.removesuffix(SUFFIX), "series": series, "drawn_on": _drawn_on(panel)}
            yield names | of_curve(cells[cells["series"] == series], drawn[drawn["series"] == series])


def _drawn_on(panel: Panel) -> str:
    return MEANS if panel.sources[0].table == "interpolation" else SEQUENCES


def of_curve(cells: pd.DataFrame, drawn: pd.DataFrame) -> dict[str, int | float]:
    """Spreads of one curve: `cells` has its `value` by x, seed and batch (y), `drawn` its y by x and seed.

    NaN is what one seed, one batch or no drawn curve do not tell.
    """
    values = cells.pivot(index="x", columns=["seed", "y"], values="value").dropna()
    level = values.mean(axis=1)
    values = values[level > ROUNDING * level.max()]
    seeds = drawn.pivot(index="x", columns="seed", values="y").reindex(values.index).dropna()
    over_batches, over_seeds = (_relative(values, held) for held in ("seed", "y"))
    as_drawn = _mean(seeds.std(axis=1) / seeds.mean(axis=1))
    return {
        "seeds": max(seeds.shape[1], values.columns.unique("seed").size),
        "batches": values.columns.unique("y").size,
        "points": len(values),
        "over_batches": over_batches,
        "over_seeds": over_seeds,
        "drawn": as_drawn,
        "ratio": over_seeds / over_batches if over_batches > 0 else np.nan,
        "drawn_ratio": as_drawn / over_batches if over_batches > 0 else np.nan,
    }


def _relative(values: pd.DataFrame, held: str) -> float:
    """Mean over x of the standard deviation of `values` (columns: seed and y) with `held` fixed, as a part of their mean."""
    variance = values.T.groupby(level=held).var().mean()
    return _mean(np.sqrt(variance) / values.mean(axis=1))


def _mean(values: pd.Series) -> float:
    return float(values.mean()) if len(values) else np.nan
