"""SLURM jobs of this folder whose Snakemake has gone: killed, it leaves them behind, and a second one would submit them again."""

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from mesaopt.errors import InputError

_POLL_SECONDS = 2.0


@dataclass(frozen=True)
class Job:
    """A job in SLURM's queue; `comment` names what it runs, such as rule_probe_wildcards_linear_lsa-d6_1."""

    number: str
    state: str
    comment: str


def queued_jobs(folder: Path) -> list[Job]:
    """Jobs in SLURM's queue that a Snakemake in `folder` submitted. Raises `InputError` when SLURM cannot be asked."""
    try:
        listed = _slurm("squeue", "--noheader", "--format", "%A|%T|%k|%Z")
    except OSError as error:
        raise InputError(f"squeue: {error.strerror}; orphans can only be found where SLURM is") from None
    jobs = []
    for line in listed.splitlines():
        number, state, comment, place = line.split("|", 3)
        # what Snakemake submits says its rule or group; other jobs started here are none of our business
        if comment.startswith(("rule_", "group_")) and os.path.realpath(place) == os.path.realpath(folder):
            jobs.append(Job(number, state, comment))
    return jobs


def orphans_stage(folder: Path, cancel: bool, wait: bool) -> None:
    """List the jobs of `folder`, and cancel them or wait for them; raises `InputError` if some are left."""
    jobs = queued_jobs(folder)
    print("\n".join(f"{job.number} {job.state} {job.comment}" for job in jobs) or "no jobs of this folder are in SLURM's queue")
    if cancel and jobs:
        _slurm("scancel", *(job.number for job in jobs))
    while jobs and (cancel or wait):
        time.sleep(_POLL_SECONDS)
        jobs = queued_jobs(folder)
    if jobs:
        raise InputError("wait for them with --wait or cancel them with --cancel before Snakemake runs here again")


def _slurm(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"{command[0]}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    return done.stdout
