"""The tables of a finished run at paper settings become the recorded ones, which ship with the project.

Only tables and their provenance are copied: small, tidy, and enough to redraw every figure.
"""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd

from mesaopt.errors import InputError
from mesaopt.figures.registry import FIGURES
from mesaopt.tables import atomic_path, read_table


def record(results: Path, recorded: Path) -> None:
    """Copy every finished figure table of `results` with its provenance, and the comparison with published curves.

    Says in one line what each figure's state is. Verdicts on claims are not copied: they are judged anew on what is recorded.

    Raises `InputError` when the work tree has changes (the commit would not describe what was run), when there is nothing to
    record, or when a table is damaged or was made by changed code.
    """
    _refuse_changes()
    finished = [name for name in FIGURES if (results / "tables" / f"{name}.parquet").exists()]
    if not finished:
        raise InputError(f"{results}/tables holds no finished figure; run `snakemake all --config scale=paper` first")
    if (curves := results / "curves.parquet").exists():
        read_table(curves, "curves")
    checked = [(name, *_check(results, name)) for name in finished]
    for name, table, provenance in checked:
        for source in (table, provenance):
            _copy(source, recorded / source.relative_to(results))
        print(f"{name}: recorded")
    if curves.exists():
        _copy(curves, recorded / curves.name)
        print("comparison with published curves: recorded")
    for name in FIGURES:
        if name not in finished:
            print(f"{name}: not finished at paper settings, not recorded")


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        temporary.write_bytes(source.read_bytes())


def _refuse_changes() -> None:
    try:
        status = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        raise InputError("recording needs a git work tree: the tables are stored with the commit that made them") from None
    if status:
        first = status.splitlines()[0].strip()
        raise InputError(f"the work tree has changes ({first}, ...): commit them, then record")


def _check(results: Path, name: str) -> tuple[Path, Path]:
    table, provenance = (results / "tables" / f"{name}.{suffix}" for suffix in ("parquet", "json"))
    frame: pd.DataFrame = read_table(table, "figure")
    try:
        facts = json.loads(provenance.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{provenance}: not readable ({error})") from None
    if facts.get("dirty") or "unknown" in facts.get("commits", ["unknown"]):
        raise InputError(
            f"{name}: some of its results come from changed or unknown code ({provenance}); train them from a commit"
        )
    print(f"{name}: {len(frame)} values, seeds {sorted(frame['seed'].unique().tolist())}", file=sys.stderr)
    return table, provenance
