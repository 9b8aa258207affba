"""Where numbers come from: the commit, versions, machine and time."""

import json
import os
import platform
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mesaopt.store.environment import fingerprint, versions
from mesaopt.store.git import GitError, changes, git

SOURCES = Path(__file__).resolve().parents[1]
_IMPORTED = time.time()


def provenance(*, started: float | None = None, seconds_before: float = 0.0, **extra: Any) -> dict[str, Any]:
    """What to store beside numbers: commit, versions and their fingerprint, machine, times, and whatever `extra` names.

    `started` is in seconds since the epoch (default: when this module was imported); `seconds_before` is wall time spent in
    earlier, interrupted processes of the same job and counts in `wall_seconds`.
    """
    started = _IMPORTED if started is None else started
    finished = time.time()
    found = versions()
    return {
        **commit(),
        "python": platform.python_version(),
        "versions": found,
        "environment": fingerprint(found),
        "platform": platform.platform(),
        "host": platform.node(),
        "cpu": cpu_model(),
        "threads": int(os.environ.get("OMP_NUM_THREADS", "0")) or os.cpu_count(),
        "started": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        "finished": datetime.fromtimestamp(finished, UTC).isoformat(timespec="seconds"),
        "wall_seconds": round(finished - started + seconds_before, 3),
        **extra,
    }


def commit() -> dict[str, Any]:
    """{"commit": hash, "dirty": whether the package's sources differ from it}; where git does not say, both are None and `git` is
    why, in git's own words.
    """
    try:
        head = git(SOURCES, "rev-parse", "HEAD").strip()
        # code that was installed somewhere below a work tree is not what that work tree's commit says
        git(SOURCES, "ls-files", "--error-unmatch", "store/provenance.py")
        return {"commit": head, "dirty": bool(changes(SOURCES))}
    except GitError as error:
        return {"commit": None, "dirty": None, "git": str(error)}


def cpu_model() -> str:
    """The processor's name, as well as it can be had."""
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), flags=re.MULTILINE)
    except OSError:
        match = None
    return match.group(1) if match else platform.processor() or platform.machine()


def write_json(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Write `content` as readable JSON, atomically. Raises `InputError` when the disk refuses."""
    from mesaopt.store.tables import atomic_path  # pandas and pyarrow, which a reader of fingerprints need not wait for

    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
