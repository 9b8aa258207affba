"""The ways of declaring the environment say the same, and results of different environments are told apart."""

import json
import re
from pathlib import Path

import pytest
import yaml
from figure_inputs import SEEDS, record, write_results

from mesaopt.errors import InputError
from mesaopt.figures.collect import collect
from mesaopt.figures.draw import draw, small_print
from mesaopt.figures.options import Style
from mesaopt.figures.registry import figure
from mesaopt.store.environment import environment_of, fingerprint, versions
from mesaopt.store.provenance import provenance

ROOT = Path(__file__).parents[2]
#: names that conda knows under another name than the Python package index
CONDA_NAMES = {"pytorch": "torch", "snakemake-minimal": "snakemake", "matplotlib-base": "matplotlib", "seaborn-base": "seaborn"}


def pip_pins(name: str) -> dict[str, str]:
    lines = [line.partition(";")[0] for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), "every requirement is pinned exactly"
    return {package.lower().replace("_", "-"): version for package, version in (line.split("==") for line in lines)}


def conda_pins() -> dict[str, str]:
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pins = dict(entry.split("=") for entry in dependencies)
    return {CONDA_NAMES.get(name, name): version for name, version in pins.items()}


def test_conda_and_pip_declare_the_same_versions() -> None:
    conda = conda_pins()
    assert conda.pop("python") == "3.11"
    assert conda == pip_pins("requirements.txt") | pip_pins("requirements-slurm.txt")


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-slurm.txt", "requirements-dev.txt"])
def test_constraints_agree_with_the_requirements(name: str) -> None:
    constraints = pip_pins("constraints.txt")
    assert {package: constraints.get(package) for package in pip_pins(name)} == pip_pins(name)


def test_torch_is_the_pinned_one() -> None:
    assert pip_pins("requirements.txt")["torch"] == "2.13.0"


# --- what travels with results
def test_provenance_has_the_versions_of_all_declared_packages() -> None:
    found = provenance()
    assert set(found["versions"]) == conda_pins().keys() - pip_pins("requirements-slurm.txt").keys() - {"plotly"}
    assert found["environment"] == fingerprint(versions())
    assert fingerprint(versions()) != fingerprint(versions() | {"numpy": "1.0"})


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Results of figure 1, one of whose tables comes from another environment than the trainings."""
    results = write_results(tmp_path, only="fig1")
    for path in results.rglob("provenance.json"):
        path.write_text(json.dumps(record(1) | {"environment": "aaa"}))
    table = next(results.rglob("in_context.parquet"))
    table.with_suffix(".json").write_text(json.dumps({"environment": "bbb", "versions": {"numpy": "2.1"}}))
    collect("fig1", results, SEEDS, tmp_path / "fig1.parquet", tmp_path / "fig1.json")
    return tmp_path


def test_a_figure_of_two_environments_says_so(mixed: Path) -> None:
    facts = json.loads((mixed / "fig1.json").read_text())
    assert facts["environments"] == ["aaa", "bbb"]
    assert facts["versions"] == {"numpy": ["2.0", "2.1"]}
    assert "made in 2 environments (numpy 2.0, 2.1)" in small_print(figure("fig1"), facts, Style())
    draw("fig1", mixed / "fig1.parquet", mixed / "fig1.json", {}, mixed / "fig1.svg")
    assert (mixed / "fig1.svg").exists()


def test_slurms_plugin_makes_no_other_environment() -> None:
    with_it = versions() | {"snakemake-executor-plugin-slurm": "2.8.0"}
    old = {"versions": with_it, "environment": fingerprint(with_it)}
    assert old["environment"] != environment_of(old) == fingerprint(versions()) == environment_of(provenance())


def test_what_shows_results_makes_no_other_environment() -> None:
    assert "plotly" in conda_pins() and "plotly" not in versions()


def test_a_strict_figure_refuses_two_environments(mixed: Path) -> None:
    with pytest.raises(InputError, match=r"fig1: its results come from 2 environments \(numpy 2\.0, 2\.1\)"):
        draw("fig1", mixed / "fig1.parquet", mixed / "fig1.json", {}, mixed / "fig1.pdf", strict=True)
    assert not (mixed / "fig1.pdf").exists()


def test_a_strict_figure_of_one_environment_is_drawn(mixed: Path) -> None:
    facts = json.loads((mixed / "fig1.json").read_text()) | {"environments": ["aaa"]}
    (mixed / "fig1.json").write_text(json.dumps(facts))
    draw("fig1", mixed / "fig1.parquet", mixed / "fig1.json", {}, mixed / "fig1.png", strict=True)
    assert "environments" not in small_print(figure("fig1"), facts, Style())
