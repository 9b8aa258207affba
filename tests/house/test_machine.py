"""The machine of whoever runs the tests stays as it was: what changes it is asked for, and taken back."""

import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import nullcontext
from importlib.metadata import requires
from pathlib import Path

import pytest
import slurm_cluster
import system
from workflow_folder import ROOT, command, environment, with_slurm_plugin

from mesaopt.store.environment import pip_pins, plain, running

#: where SLURM, munge and their installation keep what they know
PLACES = ("/etc/slurm", "/etc/munge", "/run/munge", "/run/slurm", "/run/lock", "/var/lib/munge", "/var/lib/slurm", "/var/spool")
#: of a SLURM whose controller is gone
AWAY = "ClusterName=away\nSlurmctldHost=localhost(127.0.0.1)\nSlurmctldPort=1\nNodeName=localhost\nPartitionName=cpu Nodes=ALL\n"


def processes(state: Path) -> list[str]:
    """Command lines of living processes that were started with something of `state`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(state) in line:
            found.append(line)
    return found


def test_what_changes_the_machine_is_skipped_by_name_unless_asked_for() -> None:
    line = [sys.executable, "-m", "pytest", "-m", "system", "tests/workflow"]
    unasked = {name: value for name, value in os.environ.items() if name != "SYSTEM"}
    done = subprocess.run(line, cwd=ROOT, env=unasked, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    skipped = [said for said in done.stdout.splitlines() if said.startswith("SKIPPED")]
    for name in ("test_a_miniature_on_slurm", "test_a_job_is_requeued", "test_full_disk[tables-tables/fig13.parquet]"):
        [said] = [said for said in skipped if f"{name}:" in said]
        assert "make test SYSTEM=1" in said
    assert " passed" not in done.stdout


def test_ci_asks_and_shows_the_slowest_tests_and_the_coverage(tmp_path: Path) -> None:
    """Its script with a stand-in for everything that it calls."""
    (tmp_path / "bin").mkdir()
    for name in ("make", "aarch64-linux-gnu-g++"):
        (tmp_path / "bin" / name).write_text('#!/bin/sh\necho "$SYSTEM $CI $*"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    variables = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    said = subprocess.run([ROOT / ".ci/run"], env=variables, capture_output=True, text=True, check=True).stdout
    lint, test = said.splitlines()
    assert lint == "1 true lint"
    assert test.startswith("1 true test ") and "--durations=10" in test and "--cov " in test


def test_what_make_is_told_reaches_the_tests(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    show = '--eval=show: ; @echo "$$SYSTEM $$SLURM_CONF"'
    line = ["make", "-s", show, "show"]
    unasked = {name: value for name, value in os.environ.items() if name not in ("SYSTEM", "SLURM_CONF", "MAKEFLAGS")}
    for given, expected in ((["SYSTEM=1"], "1 /dev/null"), ([], " /dev/null")):
        done = subprocess.run([*line, *given], cwd=tmp_path, env=unasked, capture_output=True, text=True)
        assert done.stdout.rstrip("\n") == expected, done.stderr


@pytest.mark.parametrize("had", [True, False])
def test_an_installation_starts_no_service_and_leaves_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, had: bool) -> None:
    key, policy = tmp_path / "munge.key", tmp_path / "policy-rc.d"
    monkeypatch.setattr(system, "KEY", key)
    monkeypatch.setattr(system, "POLICY", policy)
    if had:
        key.write_text("mine")
        policy.write_text("mine")
    with pytest.raises(RuntimeError), system.without_services():
        assert had or subprocess.run([policy]).returncode == 101
        if not had:
            key.write_text("made")
        raise RuntimeError
    assert sorted(path.name for path in tmp_path.iterdir()) == (["munge.key", "policy-rc.d"] if had else [])
    assert not had or key.read_text() == policy.read_text() == "mine"


@pytest.mark.system("it installs and starts a SLURM")
@pytest.mark.parametrize("fault", [None, "in the block", "before the node is up"])
def test_slurm_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str | None) -> None:
    slurm_cluster.install()
    before, asked = system.inventory(*PLACES), os.environ["SLURM_CONF"]
    state = tmp_path / "slurm"
    state.mkdir()
    if fault == "before the node is up":
        monkeypatch.setattr(slurm_cluster, "node_states", lambda: pytest.fail("a fault put in by a test"))
    expected = pytest.raises(BaseException, match="a fault put in by a test") if fault else nullcontext()
    with expected, slurm_cluster.running(state):
        assert len(processes(state)) >= 3
        if fault:
            raise RuntimeError("a fault put in by a test")
    assert processes(state) == []
    assert system.inventory(*PLACES) == before
    assert os.environ["SLURM_CONF"] == asked


def test_what_is_installed_without_being_asked_for_asks_no_cluster() -> None:
    """Snakemake imports every plugin that is installed, and SLURM's asks its controller then: no package here needs it."""
    reached = set(pip_pins(ROOT, "requirements.txt")) | set(pip_pins(ROOT, "requirements-dev.txt"))
    while True:
        installed = {name for name in reached if running(name) is not None}
        needed = {plain(re.split(r"[^\w.-]", line, maxsplit=1)[0]) for name in installed for line in requires(name) or []}
        if needed <= reached:
            break
        reached |= needed
    assert {"snakemake-interface-executor-plugins", "packaging"} <= reached
    assert not any(name.startswith("snakemake-executor-plugin") for name in reached)


@pytest.mark.skipif(shutil.which("scontrol") is None, reason="NOT TESTED: a SLURM that is away; SLURM's programs are not here")
@with_slurm_plugin
def test_a_slurm_that_is_away_costs_the_tests_nothing(tmp_path: Path) -> None:
    """The SLURM plugin asks SLURM at every start of Snakemake, and waits ten seconds for one that is away."""

    def asked(settings: str) -> float:
        started = time.monotonic()
        subprocess.run(["scontrol", "show", "config"], env=environment() | {"SLURM_CONF": settings}, capture_output=True)
        return time.monotonic() - started

    (tmp_path / "slurm.conf").write_text(AWAY)
    assert asked(str(tmp_path / "slurm.conf")) > 5, "nothing to be spared"
    assert asked(environment()["SLURM_CONF"]) < 1
    assert "export SLURM_CONF := /dev/null\n" in (ROOT / "Makefile").read_text()
    done = subprocess.run(command("--help"), env=environment(), capture_output=True, text=True, timeout=60)
    assert "--slurm-status-command" in done.stdout
