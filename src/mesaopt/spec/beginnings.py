"""Runs that are the beginning of another one (`beginning_of:` in an entry): what the first steps of a longer training leave is
taken from that training, whose settings they share, instead of being trained once more.
"""

import copy
from collections.abc import Mapping
from typing import Any

from mesaopt.errors import InputError, unknown
from mesaopt.spec.entries import EXPERIMENTS
from mesaopt.spec.run import Run

KEY = "beginning_of"


def inherit(entries: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Give every entry with the key the settings of the run that it names, beneath its own; returns which run each one names.

    Raises `InputError` where there is no such run, or where it is itself the beginning of another one.
    """
    named = {name: entry.pop(KEY) for name, entry in entries.items() if KEY in entry}
    for name, longer in named.items():
        if longer not in entries:
            raise InputError(f"{name}: {KEY}: {unknown(longer, 'run', list(entries), EXPERIMENTS)}")
        if longer in named:
            raise InputError(f"{name}: {KEY}: {longer} is itself the beginning of {named[longer]}")
        own, base = entries[name], copy.deepcopy(entries[longer])
        base.pop("panels", None)
        base["training"] = {**base.get("training", {}), **own.pop("training", {})}
        entries[name] = {**base, **own}
    return named


def taken(named: Mapping[str, str], runs: Mapping[str, Run]) -> dict[str, str]:
    """Of the runs that name a longer one those that really are its beginning; where settings were changed they are trained."""
    return {name: longer for name, longer in named.items() if is_beginning(runs[name], runs[longer])}


def is_beginning(run: Run, longer: Run) -> bool:
    """Whether the weights, snapshots and losses of `run` are among those of `longer`, seed by seed."""
    snapshots = {"snapshot_every": 0, "snapshot_until": 0}
    ours, theirs = (of.training.to_dict() | snapshots | {"steps": longer.training.steps} for of in (run, longer))
    same = (run.task, run.model, ours) == (longer.task, longer.model, theirs)
    # without a horizon the cosine ends at the last step, which is another one
    scheduled = run.training.final_lr is None or run.training.horizon is not None or run.training.steps == longer.training.steps
    tested = run.training.steps % run.training.test_every == 0 or run.training.steps == longer.training.steps
    steps = [step for step in range(run.training.steps + 1) if run.training.snapshot_at(step)]
    kept = run.training.steps <= longer.training.steps and all(map(longer.training.snapshot_at, steps))
    return same and scheduled and tested and kept
