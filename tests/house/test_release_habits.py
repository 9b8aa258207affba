"""What is said of the project in several places is said alike, and what its files for others name is there."""

import re
import shutil
import tomllib
from pathlib import Path

import yaml

import mesaopt

ROOT = Path(__file__).parents[2]


def test_every_place_says_the_same_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert project["version"] == cited["version"] == mesaopt.__version__
    assert f"The version is {mesaopt.__version__} " in (ROOT / "CHANGELOG.md").read_text()
    assert project["license"] == cited["license"]


def test_checks_before_a_commit_are_those_of_make_lint() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"], "nothing is downloaded"
    lint = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    for hook in hooks[0]["hooks"]:
        assert hook["entry"].removeprefix(".venv/bin/") in lint
        assert shutil.which(hook["entry"].split()[0].removeprefix(".venv/bin/")), "it is installed by make test"


def test_the_public_ci_runs_the_two_commands_of_the_readme() -> None:
    (block,) = re.findall(r"^```\n(make figures.*?)^```$", (ROOT / "README.md").read_text(), flags=re.DOTALL | re.MULTILINE)
    told = [" ".join(line.split()[:2]) for line in block.splitlines()]
    steps = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]["test"]["steps"]
    run = [step["run"].removesuffix(' PYTHON="$(command -v python)"') for step in steps if "run" in step]
    assert run[:2] == told == ["make figures", "make test"]


def test_the_public_ci_audits_pins_that_are_there() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]
    audits = [step["run"] for step in jobs["audit"]["steps"] if "run" in step]
    files = [line.rpartition(" ")[2] for line in audits]
    assert files == ["requirements-cuda.lock", "constraints.txt"] and all((ROOT / name).is_file() for name in files)
    assert all(re.fullmatch(r"pipx run pip-audit==[\d.]+ .+", line) for line in audits)
