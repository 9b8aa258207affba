"""Every drift of what runs from what is declared is named, in a table that survives it."""

import json
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from workflow_folder import copy_workflow, snakemake

from mesaopt.errors import InputError
from mesaopt.store import drift
from mesaopt.store.environment import PIP_NAMES, conda_pins, satisfies
from mesaopt.store.tables import read_table

ROOT = Path(__file__).parents[2]
DECLARING = ("environment.yml", "requirements.txt", "constraints.txt")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in DECLARING:
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def drifts(project: Path) -> list[tuple[str, str, str]]:
    """(item, where it is declared, what runs) of every drift; the tests themselves may run on another Python."""
    table = drift.compare(project)
    rows = table[(table["state"] == drift.DRIFT) & (table["item"] != "python")]
    return list(zip(rows["item"], rows["declared_in"], rows["running"], strict=True))


@pytest.mark.parametrize(
    ("version", "declared", "good"),
    [
        ("2.13.0", "2.13.0", True),
        ("2.13.0+cpu", "2.13.0", True),
        ("2.13.0+cu126", "2.13.0", True),
        ("3.11.14", "3.11", True),
        ("2.13.01", "2.13.0", False),
        ("3.110", "3.11", False),
        ("2.12.0+cpu", "2.13.0", False),
        (None, "1.0", False),
    ],
)
def test_versions_that_satisfy_a_pin(version: str | None, declared: str, good: bool) -> None:
    assert satisfies(version, declared) is good


def test_what_runs_here_is_what_is_declared() -> None:
    assert drifts(ROOT) == []


def test_every_drift_is_named_and_the_table_survives(project: Path) -> None:
    for name, sign in zip(DECLARING, ("=", "==", "=="), strict=True):
        change(project / name, f"pandas{sign}3.0.3", f"pandas{sign}3.0.2")
    change(project / "environment.yml", "python=3.11", "python=3.9")
    table = project / "environment.parquet"
    with pytest.raises(InputError, match=r"python 3\.1\d.* \(.*: 3\.9\); pandas 3\.0\.3 \(environment.yml: 3\.0\.2\)"):
        drift.environment_stage(project, table)
    found = read_table(table, "environment")
    assert set(found.loc[found["item"] == "pandas", "declared_in"]) == set(DECLARING)
    assert {"platform", "BLAS of numpy", "CUDA of torch", "threads of a job"} <= set(
        found.loc[found["state"] == "recorded", "item"]
    )


@pytest.mark.parametrize("tampered", DECLARING)
def test_a_pin_changed_in_one_file_alone(project: Path, tampered: str) -> None:
    sign = "=" if tampered == "environment.yml" else "=="
    change(project / tampered, f"pyarrow{sign}25.0.0", f"pyarrow{sign}25.0.1")
    found = drifts(project)
    assert ("pyarrow", tampered, "25.0.0") in found
    assert any("in requirements.txt" in running or "in constraints.txt" in running for _, _, running in found)
    assert {item for item, _, _ in found} == {"pyarrow"}


def test_a_declared_package_that_is_not_there(project: Path) -> None:
    change(project / "environment.yml", "  - pandas=", "  - a-package-nobody-has=1.0\n  - pandas=")
    assert ("a-package-nobody-has", "environment.yml", "missing") in drifts(project)


def test_a_missing_declaration_in_one_line(project: Path) -> None:
    (project / "constraints.txt").unlink()
    with pytest.raises(InputError, match=r"constraints\.txt: no pinned packages found"):
        drift.compare(project)


CHANNEL = "https://conda.anaconda.org/conda-forge/linux-64"


def pin_file(project: Path, **changed: str) -> list[tuple[str, str, str]]:
    """Drifts with a pin file of all declared packages, in which some lines are others."""
    back = {pip: conda for conda, pip in PIP_NAMES.items()}
    lines = {
        name: f"{CHANNEL}/{back.get(name, name)}-{version}-py311_0.conda#{'0' * 32}" for name, version in conda_pins(ROOT).items()
    }
    (project / drift.PIN_FILE).write_text("\n".join(["@EXPLICIT", *(lines | changed).values()]) + "\n")
    return drifts(project)


def test_a_tampered_pin_file(project: Path) -> None:
    assert pin_file(project) == []
    other = f"{CHANNEL}/numpy-2.4.5-py311_0.conda#{'0' * 32}"
    assert pin_file(project, numpy=other) == [("numpy", "environment.yml", f"2.4.5 in {drift.PIN_FILE}")]
    found = pin_file(project, numpy=f"{CHANNEL}/numpy-2.4.6-py311_0.conda")
    assert ("numpy-2.4.6-py311_0.conda", drift.PIN_FILE, "unreadable or without hash") in found


def test_a_pin_file_that_conda_did_not_follow(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(project))
    (project / "conda-meta").mkdir()
    for name, version in conda_pins(ROOT).items():
        conda = {pip: conda for conda, pip in PIP_NAMES.items()}.get(name, name)
        digest = "1" * 32 if name == "numpy" else "0" * 32
        content = json.dumps({"md5": digest, "channel": CHANNEL})
        (project / f"conda-meta/{conda}-{version}-py311_0.json").write_text(content)
    assert pin_file(project) == [("numpy-2.4.6-py311_0", drift.PIN_FILE, "1" * 32)]


def test_the_workflow_names_a_drift_and_keeps_the_table(tmp_path: Path) -> None:
    clone = copy_workflow(tmp_path / "clone")
    change(clone / "environment.yml", "seaborn-base=0.13.2", "seaborn-base=0.13.1")
    output = snakemake(clone, "environment", "--config", "scale=smoke", succeed=False)
    assert "mesaopt: error: not the declared environment: " in output
    assert "seaborn 0.13.2 (environment.yml: 0.13.1)" in output
    assert "Traceback" not in output
    table = pd.read_parquet(clone / "results/smoke/environment.parquet")
    assert {"as declared", "drift", "recorded"} == set(table["state"])
