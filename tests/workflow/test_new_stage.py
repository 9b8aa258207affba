"""A new analysis is a file, an entry and the columns of its table: it then runs as a rule and from the command line."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from workflow_folder import environment, planned, snakemake

SMOKE = ("--config", "scale=smoke")
RUN = "results/smoke/runs/linear/lsa-d1-weights/seed-1"
STAGE = '''"""Euclidean norms of all parameters."""

from pathlib import Path

import pandas as pd

from mesaopt.data.files import read_sequences
from mesaopt.models.weights import load_weights
from mesaopt.store.tables import write_table


def run(weights: Path, sequences: Path, snapshots: Path, name: str, out: Path) -> None:
    read_sequences(sequences, "evaluation")
    norms = {key: tensor.double().norm().item() for key, tensor in load_weights(weights).items()}
    write_table(pd.DataFrame({"parameter": norms.keys(), "norm": norms.values()}).assign(predictor=name), "norms", out)
'''
ENTRY = """
    Stage(
        "norms",
        "Norms of parameters.",
        of="run",
        reads=(WEIGHTS, SEQUENCES, SNAPSHOTS),
        arguments=(text("name"),),
        writes=(run_table("norms", option="out"),),
        minutes=7,
    ),
"""
COLUMNS = """
    "norms": {"predictor": "string", "parameter": "string", "norm": "float64"},
"""


def insert(path: Path, after: str, text: str) -> None:
    content = path.read_text()
    assert content.count(after) == 1
    path.write_text(content.replace(after, after + text))


@pytest.fixture
def clone(smoke_figures: Path, tmp_path: Path) -> Path:
    """A folder in which runs are trained, then a stage is added."""
    folder = shutil.copytree(smoke_figures, tmp_path / "clone", symlinks=True)
    sources = folder / "src/mesaopt"
    (sources / "stages/norms.py").write_text(STAGE)
    insert(sources / "spec/stages.py", "    # --- of a trained run", ENTRY)
    insert(sources / "store/tables.py", "TABLES: dict[str, dict[str, str]] = {", COLUMNS)
    return folder


def test_a_new_stage_is_a_rule_and_a_command(clone: Path) -> None:
    target, words = f"{RUN}/norms.parquet", ("--weights", f"{RUN}/weights.safetensors", "--name", "LSA-1")
    assert planned(clone, target, *SMOKE) == {"norms": 1}  # no training, no sequences anew
    assert "runtime=7" in snakemake(clone, "-n", target, *SMOKE)
    snakemake(clone, target, *SMOKE)
    table = pd.read_parquet(clone / target)
    assert len(table) and set(table["predictor"]) == {"LSA-1"}
    assert json.loads((clone / f"{RUN}/norms.json").read_text())["stage"] == "norms"
    assert (clone / "results/smoke/benchmarks/norms/linear/lsa-d1-weights/seed-1.tsv").exists()
    assert planned(clone, target, *SMOKE) == {}
    others = ("--sequences", "results/smoke/data/linear/seed-1.parquet", "--snapshots", f"{RUN}/snapshots.safetensors")
    command = [sys.executable, "-m", "mesaopt", "norms", *words, *others, "--out", "norms.parquet"]
    subprocess.run(command, cwd=clone, env=environment() | {"PYTHONPATH": "src"}, check=True)
    assert (clone / "norms.parquet").read_bytes() == (clone / target).read_bytes()
