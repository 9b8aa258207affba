"""Entries of the settings files: sweeps expanded, names checked, overrides applied."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from mesaopt.errors import InputError, unknown
from mesaopt.spec.grid import at, filled, placed, points
from mesaopt.spec.json import NAME

#: where the names of runs, hand-written algorithms, tasks and texts stand
EXPERIMENTS = "config/experiments.yaml"


def expand(entries: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """One entry per point of an entry's sweep, under its name with the values filled in; `depth: [...]` is a sweep, too."""
    expanded: dict[str, dict[str, Any]] = {}
    for name, entry in entries.items():
        values = dict(entry) if isinstance(entry, Mapping) else {}
        depth = values.pop("depth", None)
        sweep = dict(values.pop("sweep", {})) | ({"depth": depth if isinstance(depth, list) else [depth]} if depth else {})
        for point in points(name, sweep):
            full = filled(name, point)
            if full in expanded:
                raise InputError(f"experiment {full!r} is defined twice")
            expanded[full] = placed(at(values, point, name), point)
    return expanded


def named_entries(entries: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Those whose names become folders. Raises `InputError` for a name that cannot be one."""
    expanded = expand(entries)
    for name in expanded:
        if not NAME.fullmatch(name):
            raise InputError(f"experiment name {name!r}: must be task/name of lower-case letters, digits, - (and _ in the task)")
    return expanded


def override(entries: dict[str, dict[str, Any]], overrides: Mapping[str, Any], where: str) -> None:
    """Change entries in place, by pattern over their names. Raises `InputError` for a pattern that matches nothing."""
    for pattern, changes in overrides.items():
        for name in fitting(list(entries), [pattern], where, "name"):
            _merge(entries[name], changes, f"{where}: {pattern}")


def fitting(names: Sequence[str], patterns: Iterable[str], where: str, kind: str) -> set[str]:
    """Those that fit one of the patterns. Raises `InputError` for a pattern that fits none; `kind` says what they name."""
    found: set[str] = set()
    for pattern in patterns:
        matched = [name for name in names if fnmatchcase(name, pattern)]
        if not matched:
            raise InputError(f"{where}: {unknown(pattern, kind, list(names), EXPERIMENTS)}")
        found |= set(matched)
    return found


def _merge(target: dict[str, Any], changes: Any, where: str) -> None:
    if not isinstance(changes, Mapping):
        raise InputError(f"{where}: must be a mapping of settings, not {changes!r}")
    for key, value in changes.items():
        if isinstance(target.get(key), dict):
            _merge(target[key], value, f"{where}: {key}")
        else:
            target[key] = value
