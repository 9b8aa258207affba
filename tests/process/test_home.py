"""Stages run for a user without home or name (a container's number, say), and load code from nobody else's folder."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from native_models import lsa, run
from workflow_folder import ROOT, copy_workflow

from mesaopt.backends.native.build import BuildError, library
from mesaopt.errors import InputError
from mesaopt.process import home

SOURCES = Path(home.__file__).parents[2]
NOBODY = 12345


def reachable(path: Path) -> bool:
    """Whether other users may follow the path, links and all."""
    every = {path.absolute(), path.resolve()}
    return all(folder.stat().st_mode & 0o001 for one in every for folder in one.parents)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of that user (tmp_path lies in one of the tests' user alone)."""
    if os.geteuid() != 0:
        pytest.skip("only root can become a user without a name")
    if not reachable(Path(sys.executable)):
        pytest.skip(f"NOT TESTED AS ANOTHER USER: {Path(sys.executable).resolve()} lies where others may not go")
    made = Path(tempfile.mkdtemp(prefix="mesaopt-home-"))
    os.chown(made, NOBODY, NOBODY)
    yield made
    shutil.rmtree(made)


def nameless(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Python, started by a user who has neither a name nor, unless it is in `variables`, a home."""
    variables |= {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCES), "TMPDIR": str(folder)}
    who = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    command = [sys.executable, "-P", *arguments]
    done = subprocess.run(command, env=variables, cwd=folder, capture_output=True, text=True, **who)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("where", [{}, {"HOME": "/"}, {"HOME": "/nowhere"}], ids=["no home", "the root folder", "not there"])
def test_libraries_get_a_name_and_folders_they_can_write_to(folder: Path, where: dict[str, str]) -> None:
    code = (
        "from mesaopt.process.home import cache_folder, with_a_home; before = cache_folder(); with_a_home();"
        "import getpass, matplotlib.pyplot; print(getpass.getuser(), before, cache_folder(), matplotlib.get_cachedir())"
    )
    done = nameless(folder, "-c", code, **where)
    name, *folders = done.stdout.split()
    assert name == f"uid-{NOBODY}"
    private = folder / f"mesaopt-{NOBODY}"
    assert all(Path(path).is_relative_to(private) for path in folders) and folders[0] == folders[1]
    assert private.stat().st_mode & 0o777 == 0o700
    assert "temporary cache directory" not in done.stderr


def test_a_stage_called_by_hand_trains(folder: Path) -> None:
    weights, spec = folder / "seed-1" / "weights.safetensors", run(lsa()).to_json()
    options = ["--spec", spec, "--weights", str(weights), "--checkpoints", str(folder / "checkpoints"), "--device", "cpu"]
    done = nameless(folder, "-m", "mesaopt", "train", *options)
    assert weights.exists() and "Traceback" not in done.stderr


#: for any user: there is no entry for the present one
WITHOUT_A_NAME = """
import pwd, runpy, sys
def nobody(number): raise KeyError(number)
pwd.getpwuid = nobody
"""


def test_without_an_entry_and_a_home_the_present_user_has_both(tmp_path: Path) -> None:
    """What can be seen wherever Python lies: the same, but for who owns the files."""
    call = [str(tmp_path / "seed-1" / "weights.safetensors"), "--checkpoints", str(tmp_path / "checkpoints"), "--device", "cpu"]
    arguments = ["mesaopt", "train", "--spec", run(lsa()).to_json(), "--weights", *call]
    code = WITHOUT_A_NAME + f"sys.argv = {arguments!r}\nrunpy.run_module('mesaopt', run_name='__main__')"
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCES), "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-P", "-c", code], env=variables, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert Path(call[0]).exists() and (tmp_path / f"mesaopt-{os.geteuid()}").is_dir()


def test_the_line_of_the_page_gives_snakemake_a_home(tmp_path: Path) -> None:
    """Typed by hand it asks for a home before it reads the workflow, in which nothing can be done about it any more."""
    code = tmp_path / "nameless.py"
    code.write_text(WITHOUT_A_NAME + "runpy.run_module('snakemake', run_name='__main__')")
    (tmp_path / "snakemake").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P {shlex.quote(str(code))} "$@"\n')
    (tmp_path / "snakemake").chmod(0o755)
    page = (ROOT / "docs/reproduction.md").read_text()
    (line,) = re.findall("`(export HOME=[^`]+)`", page)

    def plan(first: str, **variables: str) -> int:
        variables |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_CONF": "/dev/null", "TMPDIR": str(tmp_path)}
        command = f"{first}; snakemake -n figures/fig2.pdf --config scale=recorded"
        return subprocess.run(["sh", "-c", command], cwd=folder, env=variables, capture_output=True).returncode

    folder = copy_workflow(tmp_path / "clone")
    shutil.copytree(ROOT / "results/recorded", folder / "results/recorded")
    for variables in ({}, {"HOME": "/dev/null/home"}):
        assert plan(line, **variables) == 0
    assert plan(":") != 0, "Snakemake finds a home itself: the line is not needed any more"


def test_a_home_stays_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"):
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    home.with_a_home()
    assert {**os.environ, "LOGNAME": ""} == {**before, "LOGNAME": ""}
    assert home.cache_folder() == tmp_path / ".cache" / "mesaopt" and not list(tmp_path.iterdir())


def test_code_is_not_loaded_from_a_folder_of_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever makes the folder first would choose what runs."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(home.Path, "home", lambda: tmp_path / "file" / "home")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    (tmp_path / "file").write_text("")
    private = home.temporary_home()
    assert home.cache_folder() == private / ".cache" / "mesaopt"
    private.chmod(0o777)
    with pytest.raises(InputError, match=r"no home, and .*, to be used instead, is not this user's alone: set HOME or TMPDIR"):
        home.cache_folder()
    with pytest.raises(BuildError, match="not this user's alone"):
        library.__wrapped__("sequences.cpp", ("-DN=1",))
    private.rmdir()
    private.symlink_to(tmp_path)
    with pytest.raises(InputError, match="not this user's alone"):
        home.temporary_home()


def test_without_any_folder_for_temporary_files_there_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    with pytest.raises(InputError, match="none can be made among the temporary files"):
        home.temporary_home()
