"""The cores of a machine that a workflow may use, and does not at this moment.

The workflow says in the environment (`VARIABLE`) which process it is and how many cores it has; its jobs are children of it.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

#: two numbers: the workflow's process, and its cores
VARIABLE = "MESAOPT_WORKFLOW"
_LOOK_SECONDS = 1.0


def threads_of(given: int) -> Callable[[], int]:
    """How many threads a job may use now: those it was `given`, and all cores of its workflow while it is its only job.

    Looks once a second, where the system says who is whose child (Linux).
    """
    workflow, cores = (int(number) for number in os.environ.get(VARIABLE, "0 0").split())
    threads, until = given, 0.0

    def usable() -> int:
        nonlocal threads, until
        if cores > given and time.monotonic() >= until:
            threads, until = cores if _children(workflow) == 1 else given, time.monotonic() + _LOOK_SECONDS
        return threads

    return usable


def _children(process: int) -> int:
    """How many processes that the threads of a process started still run; 0 where it is not known."""
    try:
        return sum(len((task / "children").read_text().split()) for task in Path(f"/proc/{process}/task").iterdir())
    except OSError:
        return 0
