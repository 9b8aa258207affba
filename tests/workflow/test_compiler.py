"""Trainings without compiled code take hours more: the workflow says so on the console, once, when there are trainings."""

from pathlib import Path

import pytest
from workflow_folder import copy_workflow, snakemake

from mesaopt.spec import files

FEW = ("--config", "scale=smoke", "device=cpu", "runs={linear/lsa-d1-weights: {training: {steps: 4, test_every: 2}}}")
LINE = (
    "mesaopt: trainings take several times as long as with compiled code:"
    " no C++ compiler for the native kernel (no-such-compiler -m64 not found)"
)


def trained(*seeds: int) -> list[str]:
    return [f"results/smoke/{files.WEIGHTS.place}".format(run="linear/lsa-d1-weights", seed=seed) for seed in seeds]


def test_a_fallback_that_costs_hours_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy_workflow(tmp_path / "clone")
    monkeypatch.setenv("CXX", "no-such-compiler -m64")
    assert LINE not in snakemake(folder, "-n", *trained(1), *FEW)
    output = snakemake(folder, "--cores", "2", *trained(1, 11), *FEW, "pack=1")
    assert output.splitlines().count(LINE) == 1
    # nothing to train, and nothing that was hoped for
    assert LINE not in snakemake(folder, "results/smoke/tables/fig13.parquet", "-n", *FEW)
    assert LINE not in snakemake(folder, *trained(111), *FEW, "backend=torch")


def test_compiled_code_that_cannot_be_kept_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled lies in the cache of the user."""
    folder = copy_workflow(tmp_path / "clone")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/mesaopt").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    output = snakemake(folder, *trained(1), *FEW)
    (said,) = [line for line in output.splitlines() if "several times as long as with compiled code" in line]
    assert said.endswith(f"no files can be made in {tmp_path}/cache/mesaopt (it follows XDG_CACHE_HOME and HOME)")
