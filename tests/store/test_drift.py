"""Every drift of what runs from what is declared is named, in a table that survives it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from workflow_folder import copy_workflow, environment, snakemake

from mesaopt.errors import InputError
from mesaopt.store import drift
from mesaopt.store.environment import LOCKS, PIP_FILES, PIP_NAMES, conda_pins, satisfies, supported_python
from mesaopt.store.tables import read_table

ROOT = Path(__file__).parents[2]
DECLARING = ("environment.yml", "requirements.txt", "constraints.txt")
#: the one statement of the Pythons that are supported
STATEMENT = "pyproject.toml"
#: what `make slurm` installs, and conda always
PLUGIN = "snakemake-executor-plugin-slurm"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("environment.yml", *PIP_FILES, *LOCKS, STATEMENT):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def conda_has_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """conda installs SLURM's plugin with all the rest; pip's environment, which stands in for conda's here, need not have it."""
    version, running = conda_pins(ROOT)[PLUGIN], drift.running
    monkeypatch.setattr(drift, "running", lambda name: version if name == PLUGIN else running(name))


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def drifts(project: Path) -> list[tuple[str, str, str]]:
    """(item, where it is declared, what runs) of every drift."""
    table = drift.compare(project)
    rows = table[table["state"] == drift.DRIFT]
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
    change(project / STATEMENT, ">=3.11,<3.14", ">=3.8,<3.10")
    table = project / "environment.parquet"
    with pytest.raises(
        InputError, match=r"python 3\.1\d.* \(pyproject\.toml: >=3\.8,<3\.10\); .*pandas 3\.0\.3 \(environment.yml: 3\.0\.2\)"
    ):
        drift.environment_stage(project, table)
    found = read_table(table, "environment")
    assert set(found.loc[found["item"] == "pandas", "declared_in"]) - set(LOCKS) == set(DECLARING)
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


def test_a_plugin_for_slurm_is_missed_by_none_but_has_its_pin(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin, running = PLUGIN, drift.running
    for version, expected in (
        (None, []),
        ("2.8.0", []),
        ("1.0", ["environment.yml", "requirements-slurm.txt", "constraints.txt"]),
    ):
        monkeypatch.setattr(drift, "running", lambda name, version=version: version if name == plugin else running(name))
        assert drifts(project) == [(plugin, file, version) for file in expected]
    change(project / "requirements-slurm.txt", "==2.8.0", "==2.8.1")
    assert (plugin, "environment.yml", "2.8.1 in requirements-slurm.txt") in drifts(project)


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_is_held_against_the_pins_and_what_runs(project: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "_with_cuda", lambda: "cuda" in name)
    running = drift.running
    # CUDA's packages are not here, where tests run without a GPU: said to be as locked, but for one
    locked = dict(re.findall(r"^([\w.-]+)==([\w.+]+)", (project / name).read_text(), flags=re.MULTILINE))
    monkeypatch.setattr(drift, "running", lambda package: running(package) or locked.get(package))
    assert drifts(project) == []
    change(project / name, "pyarrow==25.0.0", "pyarrow==25.0.1")
    change(project / name, "attrs==", "attrs==9")
    found = drifts(project)
    assert ("pyarrow", "requirements.txt", f"25.0.1 in {name}") in found and ("pyarrow", name, "25.0.0") in found
    assert {item for item, _, _ in found} == {"pyarrow", "attrs"}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_that_is_gone_is_named(project: Path, name: str) -> None:
    (project / name).unlink()
    assert drifts(project) == [(name, "Makefile", "missing")]


@pytest.mark.parametrize("name", LOCKS)
def test_a_package_without_a_hash_is_named(project: Path, name: str) -> None:
    text = (project / name).read_text()
    (project / name).write_text(re.sub(r"^(pandas==\S+) \\\n(?: +--hash.*\n)+", r"\1\n", text, flags=re.MULTILINE))
    assert ("pandas", name, "without hash") in drifts(project)


def test_a_package_of_cuda_that_is_not_there_is_missed_where_pytorch_has_cuda(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = drift.running
    without = {"torch": "2.13.0", "nvidia-cublas": None}
    monkeypatch.setattr(drift, "running", lambda name: without[name] if name in without else running(name))
    assert ("nvidia-cublas", "requirements-cuda.lock", "missing") in drifts(project)


def test_a_missing_declaration_in_one_line(project: Path) -> None:
    (project / "constraints.txt").unlink()
    with pytest.raises(InputError, match=r"constraints\.txt: no pinned packages found"):
        drift.compare(project)


# --- the Pythons that are supported
def supported_minors() -> list[int]:
    supported = supported_python(ROOT)
    assert supported is not None
    _, (three, first), (_, beyond) = supported
    assert three == 3
    return list(range(first, beyond))


def test_everything_says_the_same_of_the_supported_pythons() -> None:
    versions = [f"3.{minor}" for minor in supported_minors()]
    matrix = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python"] == versions
    assert conda_pins(ROOT)["python"] == versions[0]
    words = f"{', '.join(versions[:-1])} or {versions[-1]}"
    makefile, readme = (ROOT / "Makefile").read_text(), (ROOT / "README.md").read_text()
    assert f"for p in {' '.join(f'python{version}' for version in versions)} python3;" in makefile
    assert f"(3, {supported_minors()[0]}) <= sys.version_info < (3, {supported_minors()[-1] + 1})" in makefile
    assert f"Python {words} is needed" in makefile and f"Python {words}" in readme


@pytest.mark.parametrize(
    ("version", "good"),
    [
        ("3.10.13", False),
        ("3.11.7", True),
        ("3.12.1", True),
        ("3.13.0", True),
        ("3.13.0rc1", True),
        ("3.14.0", False),
        ("4.0", False),
    ],
)
def test_every_supported_python_is_no_drift(project: Path, monkeypatch: pytest.MonkeyPatch, version: str, good: bool) -> None:
    monkeypatch.setattr(drift.platform, "python_version", lambda: version)
    found = drifts(project)
    assert found == ([] if good else [("python", STATEMENT, version)])


@pytest.mark.usefixtures("conda_has_everything")
def test_conda_has_the_python_of_its_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "_is_conda", lambda: True)
    change(project / "environment.yml", "python=3.11", "python=3.12")
    monkeypatch.setattr("mesaopt.store.environment.platform.python_version", lambda: "3.11.7")
    assert drifts(project) == [("python", "environment.yml", "3.11.7")]
    change(project / "environment.yml", "python=3.12", "python=3.9")
    assert ("python", STATEMENT, "3.9 in environment.yml") in drifts(project)


def test_without_the_statement_conda_s_python_counts(project: Path) -> None:
    (project / STATEMENT).unlink()
    change(project / "environment.yml", "python=3.11", "python=3.9")
    assert [(item, where) for item, where, _ in drifts(project)] == [("python", "environment.yml")]


def starts(python: str) -> bool:
    return subprocess.run([python, "-I", "-c", ""], capture_output=True).returncode == 0


@pytest.fixture(params=supported_minors())
def minor(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def python(minor: int) -> str:
    """A Python of that version, where it is here."""
    name = f"python3.{minor}"
    pyenv = sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/{name}"))  # whose shims are there for every version
    found = next((path for path in [shutil.which(name), *map(str, pyenv)] if path and starts(path)), None)
    if found is None:
        pytest.skip(f"NOT TESTED: {name} is not here (.github/workflows/test.yml has it)")
    return found


@pytest.mark.long
def test_make_on_another_python(minor: int, python: str, tmp_path: Path) -> None:
    """The environment of the README: what runs is what is declared, and a figure is drawn."""
    clone = copy_workflow(tmp_path / "clone")
    shutil.copy(ROOT / "Makefile", clone)
    shutil.copytree(ROOT / "results/recorded", clone / "results/recorded")
    variables = environment() | {"SLURM_CONF": "/dev/null"}
    for line in (
        ["make", f"PYTHON={python}", ".venv/runtime"],
        [".venv/bin/snakemake", "environment", "--config", "scale=smoke"],
        [".venv/bin/snakemake", "figures/fig2.pdf", "--config", "scale=recorded"],
    ):
        done = subprocess.run(line, cwd=clone, env=variables, capture_output=True, text=True, timeout=3000)
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
    assert (clone / "figures/fig2.pdf").exists()
    table = read_table(clone / "results/smoke/environment.parquet", "environment")
    assert table.loc[table["item"] == "python", "running"].str.startswith(f"3.{minor}.").any()


def test_on_another_python(minor: int, python: str) -> None:
    """What needs no package: every file is read, provenance is written, and this Python is a supported one."""
    code = (
        "import ast, platform, sys; from pathlib import Path; from mesaopt.store.environment import *;"
        "from mesaopt.store.provenance import provenance;"
        "[ast.parse(path.read_text()) for folder in ('src', 'tests', 'benchmarks') for path in Path(folder).rglob('*.py')];"
        "print(is_supported(platform.python_version(), supported_python()), versions()['python'], provenance()['python'])"
    )
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([python, "-c", code], cwd=ROOT, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    supported, short, long = done.stdout.split()
    assert (supported, short) == ("True", f"3.{minor}") and long.startswith(f"{short}.")


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


@pytest.mark.usefixtures("conda_has_everything")
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
