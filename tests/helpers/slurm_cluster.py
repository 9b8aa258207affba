"""A real SLURM for tests, the workflow run on it, and what it says about the jobs of a folder."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from system import packages
from workflow_folder import command, copy_workflow, environment

TEMPLATES = Path(__file__).parent / "slurm"
#: polled faster than on a real cluster; settings follow
OPTIONS = ("--profile", "slurm", "--slurm-init-seconds-before-status-checks", "2")
CPUS, GPUS = 4, 2
DAEMONS = os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/sbin"))


@contextmanager
def running(state: Path) -> Iterator[None]:
    """A SLURM of this machine with partitions cpu and gpu until the end of the block, whatever ends it.

    Its settings, its key and everything that it writes are in `state`, its ports are its own and its daemons die with the tests,
    so that no other SLURM notices and nothing is left. `$SLURM_CONF` tells SLURM's programs where it is.
    """
    install()
    _configure(state)
    with ExitStack() as stack:
        variables = stack.enter_context(pytest.MonkeyPatch.context())
        variables.setenv("SLURM_CONF", str(state / "slurm.conf"))
        variables.setenv("PATH", str(state / "bin"), prepend=os.pathsep)
        key, log = f"--key-file={state}/munge/key", f"--log-file={state}/log/munge.log"
        places = (f"--socket={state}/munge/socket", f"--pid-file={state}/munge/pid", f"--seed-file={state}/munge/seed")
        stack.enter_context(_daemon(state, "munged", "--foreground", "--force", key, log, *places))
        _until((state / "munge/socket").exists, "munged did not answer", state)
        stack.enter_context(_daemon(state, "slurmctld", "-D", "-c", "-f", f"{state}/slurm.conf"))
        stack.enter_context(_daemon(state, "slurmd", "-D", "-c", "-f", f"{state}/slurm.conf", "-N", _host()))
        _until(lambda: "idle" in node_states(), "the node did not come up", state)
        stack.callback(_cancel_all)
        yield


def install() -> None:
    packages("slurmctld", "slurmd", "munged", names=("slurm-wlm", "slurm-wlm-basic-plugins", "munge"))


def _host() -> str:
    return socket.gethostname().partition(".")[0]


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _configure(state: Path) -> None:
    for name in ("controller", "node", "log", "devices", "munge", "bin"):
        (state / name).mkdir()
    (state / "munge").chmod(0o711)
    key = state / "munge/key"
    key.touch(0o600)
    key.write_bytes(os.urandom(128))
    for number in range(GPUS):  # the null device, so nothing that asks for a GPU finds one that works
        os.mknod(state / f"devices/gpu{number}", 0o020666, os.makedev(1, 3))
    controller, node = _free_ports(2)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 8 // 10 // 2**20
    values = {"state": state, "host": _host(), "cpus": CPUS, "memory": memory, "gpus": GPUS, "last_gpu": GPUS - 1}
    for template in TEMPLATES.glob("*.conf"):
        text = template.read_text().format(**values, controller_port=controller, node_port=node)
        (state / template.name).write_text(text)
    # the SLURM plugin takes $SLURM_CONF from the jobs in which it calls this
    srun = state / "bin/srun"
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={shlex.quote(str(state))}/slurm.conf exec {shutil.which("srun")} "$@"\n')
    srun.chmod(0o755)


@contextmanager
def _daemon(state: Path, *line: str) -> "Iterator[subprocess.Popen[bytes]]":
    """A daemon in the foreground; it is killed when its block ends, and by the kernel when the tests are."""
    program = shutil.which(line[0], path=DAEMONS)
    with open(state / "log" / f"{line[0]}.out", "wb") as out:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", program, *line[1:]],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PATH": DAEMONS},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until(condition: Callable[[], object], what: str, state: Path, timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        logs = {path.name: path.read_text(errors="replace")[-2000:] for path in (state / "log").iterdir()}
        assert time.monotonic() < deadline, f"{what}: {logs}"
        time.sleep(0.2)


def node_states() -> str:
    done = subprocess.run(["sinfo", "--noheader", "--format", "%T"], capture_output=True, text=True, timeout=30)
    return done.stdout


def _cancel_all() -> None:
    """Jobs go before their SLURM does."""
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(["scancel", "--user", "root"], capture_output=True, timeout=30)
        deadline = time.monotonic() + 20
        while subprocess.run(["squeue", "--noheader"], capture_output=True, timeout=30).stdout and time.monotonic() < deadline:
            time.sleep(0.5)


def clone(folder: Path) -> Path:
    return copy_workflow(folder)


def _hear_interrupts() -> None:
    """In a child: tests that a shell started in the background ignore SIGINT, and a child would inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


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
                preexec_fn=_hear_interrupts,
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
