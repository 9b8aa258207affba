"""How many sequences a loss by position takes for a stated precision, from how much single sequences differ.

    python benchmarks/precision.py [TABLES]

reads the tables of figures 2, 3, 11 and 12 in the folder TABLES (default: the recorded ones) and says of every curve the standard
deviation of single sequences late in the context as a part of their mean, and how many sequences bring the standard error of the
mean to what is asked of the task. The settings `evaluate` of config/experiments.yaml are these numbers, rounded up.

A standard deviation is that of the tables where they have it (panels `{panel}_error`), or else that of means over the test
batches, 16 times that for batches of 256; root mean square over positions 40 to 50 and over seeds. Where tails are heavy it is a
rough number.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

RECORDED = Path(__file__).parents[1] / "results/recorded/tables"
#: standard error of the mean, as a part of it, that is asked of the task of each figure
PRECISION = {"fig2": 0.02, "fig3": 0.02, "fig11": 0.1, "fig12": 0.02}
PANELS = ("mse_1", "mse_depth")
LATE, BATCH = (40, 50), 256


def deviations(table: pd.DataFrame) -> Iterator[tuple[str, float]]:
    """Series of the losses by position in a figure's table, and the deviation of single sequences as a part of their mean."""
    late = table[table["x"].between(*LATE)]
    for panel in PANELS:
        parts = {name: late[late["panel"] == f"{panel}{name}"] for name in ("", "_error", "_sequences", "_test_batches")}
        for series in parts[""]["series"].unique():
            yield series, _deviation({name: rows[rows["series"] == series] for name, rows in parts.items()})


def _deviation(parts: dict[str, pd.DataFrame]) -> float:
    """NaN where the table does not tell."""
    if len(parts["_error"]):
        mean, error, count = (parts[name].set_index(["x", "seed"])["y"] for name in ("", "_error", "_sequences"))
        relative = error * count**0.5 / mean
    else:
        batches = parts["_test_batches"].pivot(index=["x", "seed"], columns="y", values="value")
        relative = batches.std(axis=1) / batches.mean(axis=1) * BATCH**0.5
    return float(np.sqrt((relative**2).mean()))


def needed(deviation: float, precision: float) -> int:
    """Sequences whose mean has that standard error."""
    return int(np.ceil((deviation / precision) ** 2))


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else RECORDED
    for figure, precision in PRECISION.items():
        for series, deviation in deviations(pd.read_parquet(folder / f"{figure}.parquet")):
            found = f"{needed(deviation, precision):8,} sequences for {precision:.0%}" if deviation > 0 else "not told"
            print(f"{figure:6} {series:15} deviation {deviation:6.2f} of the mean: {found}")


if __name__ == "__main__":
    main()
