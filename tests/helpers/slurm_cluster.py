"""A real SLURM for tests, the workflow run on it, and what it says about the jobs of a folder."""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from workflow_folder import command, copy_workflow, environment

SCRIPTS = Path(__file__).parent / "slurm"
LOCK = Path("/run/lock/mesaopt-tests-slurm")
#: polled faster than on a real cluster; settings follow
OPTIONS = ("--profile", "slurm", "--slurm-init-seconds-before-status-checks", "2")


@contextmanager
def running(request: pytest.FixtureRequest, state: Path) -> Iterator[None]:
    """A SLURM with partitions cpu and gpu: one that answers already, or one of our own until the end.

    Where none can be started, in CI the test fails; elsewhere it is skipped, with a line that says so.
    """
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("apt-get"):
        why = "no SLURM can be started here: that takes root on a Debian-like Linux"
        if os.environ.get("CI"):
            pytest.fail(why)
        reporter = request.config.pluginmanager.getplugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(f"\nNOT TESTED: the SLURM profile; {why}", yellow=True, bold=True)
        pytest.skip(why)
    with open(LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one at a time, whoever else tests on this machine
        if {"cpu", "gpu"} <= partitions():
            yield
            return
        subprocess.run([SCRIPTS / "up.sh", state], check=True, timeout=400)
        try:
            yield
        finally:
            subprocess.run([SCRIPTS / "down.sh", state], check=True, timeout=60)


def partitions() -> set[str]:
    if not shutil.which("sinfo"):
        return set()
    try:
        done = subprocess.run(["sinfo", "--noheader", "--format", "%R"], capture_output=True, text=True, timeout=10)
    except subprocess.TimeoutExpired:
        return set()
    return set(done.stdout.split())


def clone(folder: Path) -> Path:
    return copy_workflow(folder)


class Night:
    """`snakemake --profile slurm TARGET` in `folder`, in the background, and its output."""

    def __init__(self, folder: Path, target: str, *settings: str) -> None:
        self.folder = folder
        self.log = folder / f"snakemake-{time.time_ns()}.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                command(target, *OPTIONS, "--config", *settings),
                cwd=folder,
                env=environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self.log.read_text()

    def __enter__(self) -> "Night":
        return self

    def __exit__(self, *error: object) -> None:
        """Leave neither Snakemake nor jobs behind when a test fails."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def end(self, succeed: bool = True, timeout: float = 900) -> str:
        with self:
            status = self.process.wait(timeout)
        assert (status == 0) == succeed, self.output
        return self.output

    def until(self, condition: Callable[[], object], what: str, timeout: float = 120) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert self.process.poll() is None, f"ended before {what}:\n{self.output}"
            assert time.monotonic() < deadline, f"not in time: {what}\n{self.output}\n{jobs(self.folder)}"
            time.sleep(0.2)


def slurm(*arguments: str) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout


def jobs(folder: Path, comment: str = "") -> list[dict[str, str]]:
    """What SLURM knows about the jobs of `folder`, ended ones included, whose comment begins so; oldest first."""
    records = (dict(re.findall(r"(\S+?)=(\S*)", text)) for text in slurm("scontrol", "show", "job").split("\n\n"))
    here = [job for job in records if job.get("WorkDir") == str(folder) and job.get("Comment", "").startswith(comment)]
    return sorted(here, key=lambda job: int(job["JobId"]))
