"""`make` and the environment it makes, with a Python that only writes down what it is asked: nothing is installed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: a Python whose environments hold copies of it, pip's script (which names its folder) and a snakemake (likewise)
PYTHON = """#!/bin/bash
test "$*" = '-I -c ' && exit
case "$*" in *sys.version_info*) exit ;; esac
{ echo "$*"; env | grep -E '^(PIP_|VIRTUAL_ENV|PYTHON|HOME)' | sort; } >> "$LOG"
case "$*" in
*"-m venv --clear"*)
    rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python
    printf '#!/bin/sh\\nexec "%s" "$0" "$@"\\n' "$PWD/.venv/bin/python" > .venv/bin/pip
    cp .venv/bin/pip .venv/bin/snakemake
    chmod +x .venv/bin/*
esac
"""
FOREIGN = {
    "PIP_USER": "1",
    "PIP_TARGET": "/elsewhere",
    "PIP_PREFIX": "/elsewhere",
    "VIRTUAL_ENV": "/elsewhere",
    "PYTHONHOME": "/elsewhere",
    "PYTHONPATH": "/elsewhere",
}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "it's a clone"
    folder.mkdir()
    for name in ("Makefile", *sorted(path.name for path in ROOT.glob("requirements*")), "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    return folder


def make(folder: Path, *arguments: str, **variables: str) -> tuple[list[str], str]:
    """What Python was asked by `make ARGUMENTS`, and what make said on standard error."""
    log = folder.parent / "log"
    log.write_text("")
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder.parent), "LOG": str(log)} | variables
    command = ["make", f"PYTHON={folder.parent / 'python'}", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return log.read_text().splitlines(), done.stderr


def installs(asked: list[str]) -> int:
    return sum("-m pip install" in line and "--dry-run" not in line for line in asked)


def test_what_is_installed_stays(clone: Path) -> None:
    asked, said = make(clone, "figures")
    assert asked[0] == "-P -m venv --clear .venv" and installs(asked) == 2 and said == ""
    assert f"HOME={clone.parent}" in asked
    assert installs(make(clone, "figures")[0]) == 0


def test_the_plugin_for_slurm_is_installed_where_it_is_asked_for(clone: Path) -> None:
    def planned(*arguments: str) -> str:
        line = ["make", "-n", f"PYTHON={clone.parent / 'python'}", *arguments]
        variables = {"PATH": "/usr/bin:/bin", "HOME": str(clone.parent)}
        return subprocess.run(line, cwd=clone, env=variables, capture_output=True, text=True, check=True).stdout

    for arguments, expected in ((["figures"], 0), (["test"], 0), (["slurm"], 1), (["test", "SYSTEM=1"], 1)):
        assert planned(*arguments).count("-r requirements-slurm.txt") == expected


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="NOT TESTED: which lock is installed without a GPU; there is one")
def test_without_a_gpu_the_lock_without_cuda_is_installed_if_its_wheel_is_found(clone: Path) -> None:
    asked, said = make(clone, "figures", PIP_FIND_LINKS="/wheels")
    lines = [line for line in asked if "--require-hashes" in line]
    assert "--dry-run" in lines[0] and lines[1:] == ["-P -m pip install --quiet --require-hashes -r requirements-cpu.lock"]
    assert "PIP_FIND_LINKS=/wheels" in asked and said == ""
    shutil.rmtree(clone / ".venv")
    python = clone.parent / "python"
    python.write_text(PYTHON.replace('case "$*" in\n*"-m venv', 'case "$*" in\n*--dry-run*) exit 1 ;;\n*"-m venv'))
    asked, said = make(clone, "figures")
    assert [line for line in asked if "--require-hashes" in line][1:] == [
        "-P -m pip install --quiet --require-hashes -r requirements-cuda.lock"
    ]
    assert said.startswith("PyTorch with CUDA, from the package index: pip finds no torch==2.13.0+cpu") and said.count("\n") == 1


@pytest.mark.parametrize("move", [shutil.move, shutil.copytree])
def test_in_another_folder_the_environment_is_made_anew(clone: Path, move) -> None:
    """Its scripts begin with the old folder's Python: `snakemake: No such file or directory`."""
    make(clone, "figures")
    there = clone.parent / "there"
    move(clone, there)
    asked, said = make(there, "figures")
    assert said == ".venv was made for another folder or another Python: it is made anew\n"
    assert asked[0] == "-P -m venv --clear .venv" and installs(asked) == 2
    assert (there / ".venv/bin/snakemake").read_text().count(f'exec "{there}/.venv/bin/python"') == 1
    asked, said = make(there, "figures")
    assert installs(asked) == 0 and said == ""


def test_without_its_python_the_environment_is_made_anew(clone: Path) -> None:
    make(clone, "figures")
    (clone / ".venv/bin/python").unlink()
    (clone / ".venv/bin/python").symlink_to("/usr/bin/python-that-was-upgraded")
    asked, said = make(clone, "figures")
    assert "made anew" in said and installs(asked) == 2


def test_variables_of_other_environments_reach_neither_pip_nor_snakemake(clone: Path) -> None:
    asked, _ = make(clone, "figures", **FOREIGN)
    assert any("-m venv" in line for line in asked) and any("figures/fig2.pdf" in line for line in asked) and installs(asked) == 2
    assert {line for line in asked if line.partition("=")[0] in FOREIGN} == {"PIP_USER=0"}


def test_a_home_that_cannot_be_written_to_is_replaced(clone: Path) -> None:
    for home in ("/nowhere", ""):
        assert f"HOME={clone}/.venv/home" in make(clone, "figures", HOME=home)[0]


def test_a_python_is_found_in_spite_of_foreign_variables(clone: Path) -> None:
    found = subprocess.run(
        ["make", "-n", "figures"],
        cwd=clone,
        env={"PATH": os.environ["PATH"], "HOME": str(clone)} | FOREIGN,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "python" in found.stdout.splitlines()[0].split('"')[1]
