"""Where a figure comes from: what the trainings recorded about themselves, gathered."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mesaopt.errors import InputError
from mesaopt.figures.registry import chosen, inputs, runs


def describe(name: str, results: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Provenance of a figure: scale, seeds, commits, training hours, machines, versions, and the spec of every run."""
    found = {run: [_record(results / "runs" / run, seed) for seed in chosen(which, seeds)] for run, which in runs(name).items()}
    records = [record for entries in found.values() for record, _ in entries]
    tables = [path.with_suffix(".json") for path in (results / file for file in inputs(name, seeds)) if path.suffix == ".parquet"]
    # tables of versions that wrote none beside them are as good as ever: of those, nothing is known
    made = [*records, *(read_json(path) for path in dict.fromkeys(tables) if path.exists())]
    versions = {library: _distinct(r.get("versions", {}).get(library) for r in made) for library in _libraries(made)}
    environments = _distinct(record.get("environment") for record in made)
    return {
        "figure": name,
        "scale": results.resolve().name,
        "seeds": list(seeds),
        "commits": _distinct(record.get("commit") for record in records),
        "dirty": any(record.get("dirty") for record in records),
        "training_hours": round(sum(record.get("wall_seconds", 0.0) for record in records) / 3600, 4),
        "machines": _distinct(record.get("cpu") for record in records),
        "devices": _distinct(record.get("device") for record in records),
        "versions": versions,
        "environments": environments,
        "runs": {run: {"seeds": chosen(runs(name)[run], seeds), "spec": entries[0][1]} for run, entries in found.items()},
    }


def _record(folder: Path, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Provenance and spec (without the seed) of one trained run."""
    record, spec = (read_json(folder / f"seed-{seed}" / f"{name}.json") for name in ("provenance", "spec"))
    return record, {key: value for key, value in spec.items() if key != "seed"}


def mixed_environments(record: Mapping[str, Any]) -> str | None:
    """What differs between the environments that a figure's results were made in; None if they were made in one."""
    environments = record.get("environments", [])
    if len(environments) < 2:
        return None
    differing = [f"{name} {', '.join(found)}" for name, found in record.get("versions", {}).items() if len(found) > 1]
    return f"{len(environments)} environments ({'; '.join(differing) or 'a package is missing in one'})"


def _libraries(records: Sequence[dict[str, Any]]) -> list[str]:
    return sorted({library for record in records for library in record.get("versions", {})})


def _distinct(values: Iterable[Any]) -> list[str]:
    return sorted({str(value) for value in values if value is not None})


def read_json(path: Path) -> dict[str, Any]:
    """Raises `InputError` in one line when the file is missing or holds no JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object")
    return content
