"""A copy of the workflow in a folder of its own, and Snakemake run in it as a user would."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mesaopt.store.environment import LOCKS, PIP_FILES, running

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "workflow", "config", "src", "environment.yml", *PIP_FILES, *LOCKS, "pyproject.toml")
with_slurm_plugin = pytest.mark.skipif(
    running("snakemake-executor-plugin-slurm") is None, reason="NOT TESTED: SLURM's plugin of Snakemake; `make slurm` installs it"
)
#: settings of everything there is, as small as it runs
ALL = ("scale=smoke", "seeds=[1]")
LINKS = ("profiles", "slurm")  # to folders of workflow/


def copy_workflow(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"), symlinks=True)
        else:
            shutil.copy(source, folder / part)
    for link in LINKS:
        (folder / link).symlink_to((ROOT / link).readlink())
    return folder


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", *arguments]


def environment() -> dict[str, str]:
    """Without what an outer Snakemake or a test run sets."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "SNAKEMAKE_PROFILE")}


def snakemake(folder: Path, *arguments: str, succeed: bool = True, timeout: float = 600) -> str:
    """Output of `snakemake ARGUMENTS` in `folder`; its exit status must be 0, or not 0 with `succeed=False`."""
    done = subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
    )
    assert (done.returncode == 0) == succeed, done.stdout
    return done.stdout


def planned(folder: Path, *arguments: str) -> dict[str, int]:
    """Jobs by rule that `snakemake ARGUMENTS` would run now; empty when there is nothing to do."""
    output = snakemake(folder, "-n", *arguments)
    if "Nothing to be done" in output:
        return {}
    table = output.split("Job stats:")[1].split("\n\n")[0]
    counts = {name: int(count) for name, count in re.findall(r"^([\w-]+)\s+(\d+)$", table, flags=re.MULTILINE)}
    assert counts.pop("total") == sum(counts.values())
    return counts
