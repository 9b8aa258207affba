"""Processes that are measured: they get ready, start together, train for a given time and report; both sides of the pipe."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

WARM_UP = 2


def serve(step: Callable[[int], None], seconds: float, more: Callable[[], dict[str, float]] = dict) -> None:
    """In a worker: warm up, wait for the word, make steps for about `seconds` and print what was measured.

    `seconds_per_step` is wall time; `megabytes` is the process's peak memory; `more` measures what else there is, afterwards.
    """
    for index in range(WARM_UP):
        step(index)
    print("ready", flush=True)
    sys.stdin.readline()
    start, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds or count < 2:
        step(WARM_UP + count)
        count += 1
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds_per_step": elapsed / count, "megabytes": memory} | more()), flush=True)


def together(
    command: Sequence[str], jobs: Sequence[Mapping[str, Any]], environment: Mapping[str, str] | None = None
) -> list[dict[str, float]]:
    """Run a worker per job, start them at one moment when all are ready, and return their reports.

    Raises `RuntimeError` where a worker fails; what it said is on standard error.
    """
    options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    options["env"] = {**os.environ, **(environment or {})}
    running = [subprocess.Popen([*command, "--job", json.dumps(job)], **options) for job in jobs]
    for process in running:
        if process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"a worker failed: {' '.join(command)} --job '{json.dumps(jobs[0])}'")
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    return [json.loads(process.communicate()[0]) for process in running]
