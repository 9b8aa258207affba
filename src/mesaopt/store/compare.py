"""Do two folders hold the same results? Every table and weights file bit for bit, or within a tolerance between machines."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from mesaopt.errors import InputError
from mesaopt.store.tables import read_parquet

#: says what runs, not what was computed
NOT_RESULTS = ("environment.parquet",)
#: results of trainings that are under way or broke off
NOT_FINISHED = ("checkpoints",)


def compare_stage(first: Path, second: Path, tolerance: float, more: bool = False) -> None:
    """Print what differs between two folders of results; raises `InputError` if anything does, or if there is nothing."""
    count, differences = compare_folders(first, second, tolerance, more)
    for line in differences:
        print(line)
    if not count:
        raise InputError(f"{first}: no table to compare")
    promise = f"within {tolerance:g} of each column's largest value" if tolerance else "bit for bit"
    if differences:
        raise InputError(f"{len(differences)} of {count} files of {first} and {second} are not equal {promise}: {differences[0]}")
    print(f"{count} files of {first} and {second} are equal {promise}")


def compare_folders(first: Path, second: Path, tolerance: float = 0.0, more: bool = False) -> tuple[int, list[str]]:
    """How many files there are in either folder (with `more`: in the first), and a line for each that differs.

    `more` allows the second folder to hold more files: a pack trains all its seeds where single jobs train those asked for.

    With a tolerance only tables are compared: numbers may differ by `tolerance` times the largest value of their column in that
    table, everything else must be the same.
    """
    kinds = (".parquet",) if tolerance else (".parquet", ".safetensors")
    left, right = (_results(folder, kinds) for folder in (first, second))
    right = right & left if more else right
    lines = [f"{name}: only in {first if name in left else second}" for name in sorted(left ^ right)]
    for name in sorted(left & right):
        if difference := _difference(first / name, second / name, tolerance):
            lines.append(f"{name}: {difference}")
    return len(left | right), lines


def _results(folder: Path, kinds: tuple[str, ...]) -> set[str]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.suffix in kinds and path.is_file()]
    return {str(path) for path in paths if path.name not in NOT_RESULTS and path.parts[0] not in NOT_FINISHED}


def _difference(first: Path, second: Path, tolerance: float) -> str | None:
    if first.read_bytes() == second.read_bytes():
        return None
    if first.suffix != ".parquet":
        return "other bytes"
    left, right = _table(first), _table(second)
    if list(left.columns) != list(right.columns) or len(left) != len(right):
        return f"{len(left)} rows of {', '.join(left.columns)} against {len(right)} of {', '.join(right.columns)}"
    for column in left.columns:
        if difference := _column_difference(left[column], right[column], tolerance):
            return f"column {column}, {difference}"
    return None if tolerance else "the same values in other bytes"


def _table(path: Path) -> pd.DataFrame:
    try:
        return read_parquet(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})") from None


def _column_difference(left: pd.Series, right: pd.Series, tolerance: float) -> str | None:
    if not (pd.api.types.is_float_dtype(left) and pd.api.types.is_float_dtype(right)):
        different = (left != right).to_numpy()
    else:
        a, b = left.to_numpy("float64"), right.to_numpy("float64")
        allowed = tolerance * np.nanmax(np.abs(a), initial=0.0)
        with np.errstate(invalid="ignore"):
            different = ~((np.abs(a - b) <= allowed) | (a == b) | (np.isnan(a) & np.isnan(b)))
    if not different.any():
        return None
    row = int(np.flatnonzero(different)[0])
    return f"{int(different.sum())} of {len(left)} rows, first row {row}: {left.iloc[row]!s} against {right.iloc[row]!s}"
