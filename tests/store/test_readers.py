"""Tables are read by others: plain encodings, folders that can be scanned, and the readers themselves (in a long test)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from mesaopt.store.tables import read_table, write_table

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "results/recorded"
#: what ships; verdicts on them lie beside them once they were asked for
TABLES = sorted([*RECORDED.glob("curves.parquet"), *(RECORDED / "tables").rglob("*.parquet")])
#: what fastparquet, DuckDB, Polars, Arrow for R and pandas all know
KNOWN = {"PLAIN", "RLE", "RLE_DICTIONARY", "PLAIN_DICTIONARY", "BIT_PACKED"}
#: those and what they need beside this project's packages, for a folder of its own
READERS = ("duckdb==2.0.1", "polars==2.1.0", "polars-runtime-32==2.1.0", "fastparquet==2026.9.0", "cramjam", "fsspec")
READING = """
import json, sys, warnings
from pathlib import Path
import duckdb, pandas, polars
warnings.filterwarnings("ignore", category=DeprecationWarning)
folder = Path(sys.argv[1])
def plain(frame):
    return json.loads(frame.to_json(orient="split", double_precision=15, index=False))
for path in sorted(folder.rglob("*.parquet")):
    expected = pandas.read_parquet(path, engine="pyarrow")
    others = {
        "fastparquet": pandas.read_parquet(path, engine="fastparquet"),
        "polars": pandas.DataFrame(polars.read_parquet(path, use_pyarrow=False).to_dict(as_series=False)),
        "duckdb": duckdb.connect().execute(f"select * from '{path}'").fetch_df(),
    }
    for name, found in others.items():
        assert plain(found) == plain(expected), (name, path)
tables = folder / "tables"
rows = sum(len(pandas.read_parquet(path)) for path in tables.rglob("*.parquet"))
for place in (tables, tables / "**/*.parquet"):
    assert polars.scan_parquet(place).collect().height == rows
(counted,) = duckdb.connect().execute(f"select count(*) from '{tables}/**/*.parquet'").fetchone()
assert counted == rows
assert len(pandas.read_parquet(tables, engine="pyarrow")) == rows
print(rows)
"""


def encodings(path: Path) -> set[str]:
    group = pq.ParquetFile(path).metadata.row_group(0)
    return {encoding for i in range(group.num_columns) for encoding in group.column(i).encodings}


def test_new_tables_have_encodings_that_everybody_knows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"predictor": ["GD-1"] * 999, "batch": 0, "t": range(999), "mse": rng.normal(size=999)})
    frame = frame.assign(sequences=9, error=0.01, median=0.1)
    write_table(frame, "loss", tmp_path / "loss.parquet")
    assert encodings(tmp_path / "loss.parquet") <= KNOWN
    assert (read_table(tmp_path / "loss.parquet", "loss")["mse"] == frame["mse"]).all()


@pytest.mark.parametrize("path", TABLES, ids=[str(path.relative_to(RECORDED)) for path in TABLES])
def test_recorded_tables_have_encodings_that_everybody_knows_and_their_digest(path: Path) -> None:
    assert encodings(path) <= KNOWN
    read_table(path, "curves" if path.name == "curves.parquet" else "figure")


def test_the_folder_of_recorded_tables_holds_nothing_else_and_is_read_as_one() -> None:
    files = [path for path in (RECORDED / "tables").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".parquet"} and not any(path.name.startswith(".") for path in files)
    whole = pd.read_parquet(RECORDED / "tables", engine="pyarrow")
    assert len(whole) == sum(pq.ParquetFile(path).metadata.num_rows for path in files) and len(files) > 5


@pytest.mark.long
def test_duckdb_polars_and_both_engines_of_pandas_read_them(tmp_path: Path) -> None:
    """Value for value, file by file; and whole folders."""
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path), *READERS]
    subprocess.run(install, check=True, env=os.environ | {"PIP_USER": "0"})
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", READING, str(RECORDED)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) > 100_000
