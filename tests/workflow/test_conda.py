"""`--sdm conda` as far as it goes without conda's channels: a stand-in conda records what Snakemake asks of it."""

import os
import subprocess
from pathlib import Path

import yaml
from workflow_folder import ROOT, command, copy_workflow, environment

from mesaopt.store.drift import DRIFT, PIN_FILE, compare

STAND_IN = """#!/bin/sh
echo "$@" >> {folder}/asked
case "$*" in
  "info --json") echo '{{"conda_version": "25.1.0", "conda_prefix": "/opt/conda", "platform": "linux-64"}}';;
  *channel_priority*) echo '{{"get": {{"channel_priority": "strict"}}}}';;
  --version) echo "conda 25.1.0";;
  *) for word in "$@"; do case $word in *.yaml) cp $word {folder}/given.yaml;; esac; done; echo "no network" >&2; exit 1;;
esac
"""


def asked(folder: Path) -> tuple[list[str], str]:
    """What Snakemake asked of conda for one job, and what it said in the end."""
    (folder / "bin").mkdir()
    conda = folder / "bin/conda"
    conda.write_text(STAND_IN.format(folder=folder))
    conda.chmod(0o755)
    variables = environment() | {"PATH": f"{conda.parent}{os.pathsep}{os.environ['PATH']}"}
    words = command("results/smoke/data/linear/seed-1.parquet", "--sdm", "conda", "--config", "scale=smoke")
    done = subprocess.run(words, cwd=folder / "clone", env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    return (folder / "asked").read_text().splitlines(), done.stdout + done.stderr


def test_conda_is_given_the_declared_environment(tmp_path: Path) -> None:
    copy_workflow(tmp_path / "clone")
    calls, output = asked(tmp_path)
    assert any(call.startswith("env create") for call in calls)
    assert yaml.safe_load((tmp_path / "given.yaml").read_text()) == yaml.safe_load((ROOT / "environment.yml").read_text())
    assert "CreateCondaEnvironmentException" in output and "no network" in output


def test_a_pin_file_that_cannot_be_used_is_dropped_by_snakemake_but_named_by_us(tmp_path: Path) -> None:
    clone = copy_workflow(tmp_path / "clone")
    tampered = "https://conda.anaconda.org/conda-forge/linux-64/numpy-2.4.5-py311_0.conda#" + "0" * 32
    (clone / PIN_FILE).write_text(f"@EXPLICIT\n{tampered}\n")
    calls, _ = asked(tmp_path)
    first = next(index for index, call in enumerate(calls) if "--file" in call)
    assert "pin.txt" in calls[first], "the pinned packages are tried first"
    assert any(call.startswith("env create") for call in calls[first + 1 :]), "then Snakemake solves anew, without an error"
    found = compare(clone)
    assert f"2.4.5 in {PIN_FILE}" in set(found.loc[(found["item"] == "numpy") & (found["state"] == DRIFT), "running"])
