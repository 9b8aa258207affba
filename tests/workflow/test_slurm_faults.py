"""Nights that go wrong on SLURM: each fault is seen to fire, and the tables are those of an undisturbed run."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import Night, clone, jobs, running, slurm
from workflow_folder import snakemake

pytestmark = [pytest.mark.long, pytest.mark.system("it installs and starts a SLURM")]
TARGET = "results/smoke/tables/fig13.parquet"
#: long enough to be met in the middle, and a checkpoint every half second
SETTINGS = (
    "scale=smoke",
    "checkpoint_every=0.5",
    "runs={linear/lsa-d1-weights: {training: {steps: 2000, batch: 64, test_every: 500}}}",
)
LOG = "results/smoke/logs/train/linear/lsa-d1-weights/seeds-1-to-11.log"
RESULTS = ("tables/fig13.parquet", *(f"runs/linear/lsa-d1-weights/seed-{seed}/history.parquet" for seed in (1, 11)))


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with running(tmp_path_factory.mktemp("slurm")):
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = clone(tmp_path_factory.mktemp("undisturbed") / "clone")
    snakemake(folder, TARGET, "--config", *SETTINGS, "pack=2")
    return outcome(folder)


def outcome(folder: Path) -> list[bytes]:
    return [(folder / "results/smoke" / name).read_bytes() for name in RESULTS]


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    """A night whose training is in the middle: both seeds have a checkpoint."""
    folder = clone(tmp_path / "clone")
    with Night(folder, TARGET, *SETTINGS) as night:
        checkpoints = folder / "results/smoke/checkpoints/linear/lsa-d1-weights"
        night.until(lambda: len(list(checkpoints.glob("seed-*/checkpoint"))) == 2, "both seeds have a checkpoint")
        yield night


def again(night: Night) -> Night:
    return Night(night.folder, TARGET, *SETTINGS)


def training(folder: Path) -> dict[str, str]:
    return jobs(folder, "rule_train")[-1]


def went_on(folder: Path) -> bool:
    return (folder / LOG).read_text().count("goes on at step") == 2


def orphans(folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "mesaopt", "orphans", *options], cwd=folder, capture_output=True, text=True, timeout=300
    )


def test_a_job_fails_once(tmp_path: Path, undisturbed: list[bytes]) -> None:
    folder = clone(tmp_path / "clone")
    main = folder / "src/mesaopt/__main__.py"
    fault = """
if "extract" in sys.argv and not os.path.exists("failed"):
    open("failed", "w").close()
    sys.exit("a fault put in by a test")
"""
    main.write_text(main.read_text().replace('\nif __name__ == "__main__":', fault + '\nif __name__ == "__main__":'))
    output = Night(folder, TARGET, *SETTINGS).end()
    assert (folder / "failed").exists()
    assert "Trying to restart job" in output
    assert [job["JobState"] for job in jobs(folder, "rule_analysis")] == ["FAILED", "COMPLETED"]
    assert outcome(folder) == undisturbed


def test_a_job_hits_its_time_limit(night: Night, undisturbed: list[bytes]) -> None:
    for lock in (night.folder / "results/smoke/checkpoints").rglob("lock"):
        os.kill(int(lock.read_text().split()[1]), signal.SIGSTOP)  # SLURM looks at limits twice a minute
    slurm("scontrol", "update", f"JobId={training(night.folder)['JobId']}", "TimeLimit=00:00:05")
    night.end()
    assert [job["JobState"] for job in jobs(night.folder, "rule_train")] == ["TIMEOUT", "COMPLETED"]
    assert went_on(night.folder)
    assert outcome(night.folder) == undisturbed


def test_a_job_is_requeued(night: Night, undisturbed: list[bytes]) -> None:
    slurm("scontrol", "requeue", training(night.folder)["JobId"])
    night.end()
    assert [job["Restarts"] for job in jobs(night.folder, "rule_train")] == ["1"]
    assert went_on(night.folder)
    assert outcome(night.folder) == undisturbed


def test_a_node_is_drained_and_resumed(night: Night, undisturbed: list[bytes]) -> None:
    node = training(night.folder)["NodeList"]
    slurm("scontrol", "update", f"NodeName={node}", "State=drain", "Reason=test")
    try:
        night.until(lambda: "drain" in slurm("sinfo", "--noheader", "--format", "%T"), "the node drains")
        night.until(lambda: any(j["JobState"] == "PENDING" for j in jobs(night.folder, "rule_analysis")), "a job has to wait")
    finally:
        slurm("scontrol", "update", f"NodeName={node}", "State=resume")
    night.end()
    assert outcome(night.folder) == undisturbed


def test_snakemake_is_interrupted(night: Night, undisturbed: list[bytes]) -> None:
    night.process.send_signal(signal.SIGINT)
    night.end(succeed=False)
    assert training(night.folder)["JobState"] == "CANCELLED"
    assert orphans(night.folder, "--wait").returncode == 0
    again(night).end()
    assert went_on(night.folder)
    assert outcome(night.folder) == undisturbed


def test_snakemake_is_terminated(night: Night, undisturbed: list[bytes]) -> None:
    """It then waits for the jobs that run, and submits no others."""
    night.process.send_signal(signal.SIGTERM)
    assert "Will exit after finishing currently running jobs" in night.end(succeed=False)
    assert [job["JobState"] for job in jobs(night.folder)] == ["COMPLETED"]
    again(night).end()
    assert [job["JobState"] for job in jobs(night.folder, "rule_train")] == ["COMPLETED"]
    assert outcome(night.folder) == undisturbed


def kill_snakemake(night: Night) -> None:
    night.process.kill()
    night.process.wait()
    snakemake(night.folder, "--unlock", "--config", *SETTINGS)
    assert training(night.folder)["JobState"] == "RUNNING"


def test_snakemake_is_killed_and_its_orphans_waited_for(night: Night, undisturbed: list[bytes]) -> None:
    kill_snakemake(night)
    refused = again(night).end(succeed=False)
    assert "jobs of an earlier Snakemake in this folder are still in SLURM's queue" in refused
    assert "Traceback" not in refused
    assert orphans(night.folder).returncode == 1
    listed = orphans(night.folder, "--wait")
    assert listed.returncode == 0
    assert training(night.folder)["JobId"] in listed.stdout
    assert len(jobs(night.folder)) == 1, "a second job of the same training"
    again(night).end()
    assert outcome(night.folder) == undisturbed


def test_snakemake_is_killed_and_its_orphans_cancelled(night: Night, undisturbed: list[bytes]) -> None:
    kill_snakemake(night)
    assert orphans(night.folder, "--cancel").returncode == 0
    assert [job["JobState"] for job in jobs(night.folder, "rule_train")] == ["CANCELLED"]
    again(night).end()
    assert went_on(night.folder)
    assert outcome(night.folder) == undisturbed
