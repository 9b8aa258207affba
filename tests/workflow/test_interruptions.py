"""Snakemake and its trainings killed at random moments on the miniature graph; the same command again; the same bits."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from workflow_folder import command, copy_workflow, environment, snakemake

TARGET = "results/smoke/runs/linear/lsa-d1-weights/seed-1/weights.parquet"
#: long enough to be met in the middle, and a checkpoint every half second
SETTINGS = (
    *("--config", "scale=smoke", "checkpoint_every=0.5"),
    "runs={linear/lsa-d1-weights: {training: {steps: 2000, batch: 64, test_every: 500}}}",
)
RESULTS = ("weights.safetensors", "snapshots.safetensors", "history.parquet", "weights.parquet")


def outcome(folder: Path) -> dict[str, bytes]:
    run = (folder / TARGET).parent
    return {name: (run / name).read_bytes() for name in RESULTS}


def start(folder: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command(TARGET, *SETTINGS),
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def trainers(folder: Path) -> list[int]:
    """Living processes that hold a training's lock in `folder`; the file of a killed one stays behind."""
    owners = [lock.read_text().split() for lock in (folder / "results/smoke/checkpoints").rglob("lock")]
    return [int(owner[1]) for owner in owners if owner and Path("/proc", owner[1]).exists()]


@contextlib.contextmanager
def started(folder: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """`start`, and whatever happens nothing of it outlives the block."""
    with start(folder) as process:
        try:
            yield process
        finally:
            for pid in [process.pid, *trainers(folder)]:
                kill(pid)


def text(log: Path) -> str:
    """What a log says; nothing while Snakemake, which starts a job by removing its old log, has none yet."""
    with contextlib.suppress(FileNotFoundError):
        return log.read_text()
    return ""


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = copy_workflow(tmp_path_factory.mktemp("undisturbed") / "clone")
    snakemake(folder, TARGET, *SETTINGS)
    return outcome(folder)


def wait_for_training(folder: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 120
    while not trainers(folder):
        assert process.poll() is None, "finished before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_everything_killed_at_random_moments(tmp_path: Path, undisturbed: dict[str, bytes], random: Random) -> None:
    folder = copy_workflow(tmp_path / "clone")
    killed_in_training = 0
    for _ in range(3):
        with started(folder) as process:
            wait_for_training(folder, process)
            time.sleep(random.uniform(0, 1.5))
            killed_in_training += bool(trainers(folder)) and process.poll() is None
        snakemake(folder, "--unlock", *SETTINGS)
    assert killed_in_training, "no kill met a training"
    output = snakemake(folder, TARGET, *SETTINGS)
    assert "100%" in output
    assert outcome(folder) == undisturbed


def test_snakemake_killed_while_its_training_lives_on(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    """The new command waits for the training that outlived its Snakemake, instead of starting a second one."""
    folder = copy_workflow(tmp_path / "clone")
    log = folder / "results/smoke/logs/train/linear/lsa-d1-weights/seed-1.log"
    with started(folder) as process:
        wait_for_training(folder, process)
        [orphan] = trainers(folder)
        os.kill(orphan, signal.SIGSTOP)  # so that it is still there when the next one comes, however fast the machine
        kill(process.pid)
        process.wait()
        snakemake(folder, "--unlock", *SETTINGS)
        with started(folder) as again:
            deadline = time.monotonic() + 120
            while f"is being trained by process {orphan}" not in text(log):
                assert again.poll() is None and time.monotonic() < deadline, text(log)
                time.sleep(0.1)
            os.kill(orphan, signal.SIGCONT)
            assert again.wait(timeout=300) == 0
    assert outcome(folder) == undisturbed
