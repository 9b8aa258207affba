"""The two ways of declaring the environment say the same."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
#: names that conda knows under another name than the Python package index
CONDA_NAMES = {"pytorch": "torch", "snakemake-minimal": "snakemake", "matplotlib-base": "matplotlib", "seaborn-base": "seaborn"}


def pip_pins(name: str) -> dict[str, str]:
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), "every requirement is pinned exactly"
    return {package.lower().replace("_", "-"): version for package, version in (line.split("==") for line in lines)}


def conda_pins() -> dict[str, str]:
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pins = dict(entry.split("=") for entry in dependencies)
    return {CONDA_NAMES.get(name, name): version for name, version in pins.items()}


def test_conda_and_pip_declare_the_same_versions() -> None:
    conda = conda_pins()
    assert conda.pop("python") == "3.11"
    assert conda == pip_pins("requirements.txt")


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_constraints_agree_with_the_requirements(name: str) -> None:
    constraints = pip_pins("constraints.txt")
    assert {package: constraints.get(package) for package in pip_pins(name)} == pip_pins(name)


def test_torch_is_the_pinned_one() -> None:
    assert pip_pins("requirements.txt")["torch"] == "2.13.0"
