"""The table of a user's sweep: one value of every trained point and seed, over the settings that were swept."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mesaopt.errors import InputError
from mesaopt.figures.parts import run_folder
from mesaopt.figures.records import read_json
from mesaopt.spec.grid import shown
from mesaopt.spec.sweep import Sweep
from mesaopt.store.provenance import provenance as made_here
from mesaopt.store.provenance import write_json
from mesaopt.store.tables import read_table, write_table

#: the rows of a table that a panel shows: the seed's own sequences, the published way of scoring
ROWS: dict[str, Mapping[str, Any]] = {
    "test_loss": {},
    "mse": {"batch": 0},
    "target_probe": {"batch": 0, "model": "trained", "split": "in_sample", "target": "next_token"},
    "preconditioning_probe": {"batch": 0, "model": "trained", "split": "in_sample", "target": "preconditioned_input_published"},
}
VALUES = {"history": "test_loss", "loss": "mse", "probes": "mse"}
#: of these the last ones count: the last step, the last position, the last layer
LAST = {"history": ("step",), "loss": ("t",), "probes": ("layer", "t")}


def sweep_table_stage(sweep: Sweep, results: Path, seeds: Sequence[int], out: Path, provenance: Path) -> None:
    """Write the `figure` table of a sweep at `out`: x is the first swept setting, a series the values of the others.

    Where x is no number, words are counted from 1 in their order. The JSON `provenance` says what was swept, and holds the
    settings of every point. Raises `InputError` in one line for files that are missing or damaged, and where all points diverged.
    """
    if not sweep.points:
        raise InputError(f"sweep: every point diverged ({'; '.join(sweep.diverged)}); nothing is left to draw")
    rows = [
        {"panel": sweep.panel, "series": _series(sweep, point), "seed": seed, "x": _x(sweep, point), "y": value}
        for run, point in sweep.points.items()
        for seed in seeds
        for value in [_value(sweep, results / run_folder(run).format(seed=seed) / f"{sweep.table}.parquet")]
    ]
    write_table(pd.DataFrame(rows).assign(value=float("nan")), "figure", out)
    folders = {run: results / run_folder(run).format(seed=seeds[0]) for run in sweep.points}
    specs = {run: read_json(folder / "spec.json") for run, folder in folders.items()}
    scale = results.resolve().name
    write_json(provenance, made_here(scale=scale, seeds=list(seeds), sweep=sweep.to_dict(), runs=specs))


def _value(sweep: Sweep, path: Path) -> float:
    frame = read_table(path, sweep.table)
    for column, wanted in ROWS[sweep.panel].items():
        frame = frame[frame[column] == wanted]
    for column in LAST[sweep.table]:
        frame = frame[frame[column] == frame[column].max()]
    if len(frame) != 1:
        raise InputError(f"{path}: {len(frame)} rows where the sweep shows one")
    return float(frame[VALUES[sweep.table]].iloc[0])


def _x(sweep: Sweep, point: Mapping[str, Any]) -> float:
    value, key = point[sweep.over[0]], sweep.over[0]
    if isinstance(value, int | float):
        return float(value)
    return 1.0 + list(dict.fromkeys(str(one[key]) for one in sweep.points.values())).index(str(value))


def _series(sweep: Sweep, point: Mapping[str, Any]) -> str:
    others = [f"{key} {shown(point[key])}" for key in sweep.over[1:]]
    return ", ".join(others) or sweep.run
