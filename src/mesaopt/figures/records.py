"""Where a figure comes from: what the trainings recorded about themselves, gathered."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mesaopt.errors import InputError
from mesaopt.figures.looks import Looks, shipped
from mesaopt.figures.origins import origins_of
from mesaopt.figures.registry import algorithms, chosen, figure, inputs, runs
from mesaopt.store.environment import environment_of


def describe(name: str, results: Path, seeds: Sequence[int], looks: Looks | None = None) -> dict[str, Any]:
    """Provenance of a figure: scale, seeds, commits, training hours, machines, versions, spec and hours by seed of every run,
    what hand-written algorithms were learned with, labels and colours of both, and where the values of each panel come from.
    """
    looks = shipped() if looks is None else looks
    behind = runs(name, looks)
    found = {run: [_record(results / "runs" / run, seed) for seed in chosen(which, seeds)] for run, which in behind.items()}
    records = [record for entries in found.values() for record, _ in entries]
    files = (results / file for file in inputs(name, seeds, looks))
    tables = [path.with_suffix(".json") for path in files if path.suffix == ".parquet"]
    # tables of versions that wrote none beside them are as good as ever: of those, nothing is known
    made = [*records, *(read_json(path) for path in dict.fromkeys(tables) if path.exists())]
    versions = {library: _distinct(r.get("versions", {}).get(library) for r in made) for library in _libraries(made)}
    learned = _algorithms(name, results, looks)
    specs = [spec for entries in found.values() for _, spec in entries[:1]] + [of["spec"] for of in learned.values()]
    environments = _distinct(map(environment_of, made))
    return {
        "figure": name,
        "scale": results.resolve().name,
        "seeds": list(seeds),
        "commits": _distinct(record.get("commit") for record in records),
        **({"git": refusals} if (refusals := _distinct(record.get("git") for record in records)) else {}),
        "dirty": _dirty(records),
        "training_hours": round(sum(map(_hours, records)), 4),
        "machines": _distinct(record.get("cpu") for record in records),
        "devices": _distinct(record.get("device") for record in records),
        "versions": versions,
        "environments": environments,
        "runs": {run: _of_run(chosen(behind[run], seeds), entries) for run, entries in found.items()},
        "algorithms": learned,
        "looks": {run: looks[run].to_dict() for run in (*found, *algorithms(name, looks)) if run in looks},
        "where": origins_of(figure(name, looks), specs),
    }


def _dirty(records: Sequence[Mapping[str, Any]]) -> bool | None:
    """Whether any training ran on changed code; None if nobody knows."""
    found = [record.get("dirty") for record in records]
    return True if True in found else None if None in found else False


def _of_run(seeds: Sequence[int], entries: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    hours = {str(seed): round(_hours(record), 4) for seed, (record, _) in zip(seeds, entries, strict=True)}
    return {"seeds": list(seeds), "hours": hours, "spec": entries[0][1]}


def _hours(record: Mapping[str, Any]) -> float:
    """Wall time of one training; seeds that were stacked in one process share its time."""
    return record.get("wall_seconds", 0.0) / max(1, len(record.get("pack", []))) / 3600


def _algorithms(name: str, results: Path, looks: Looks) -> dict[str, Any]:
    """Seed and spec of every learned algorithm behind the figure, of those that say so."""
    paths = {algorithm: results / "theory" / algorithm / "parameters.json" for algorithm in algorithms(name, looks)}
    found = {algorithm: read_json(path) for algorithm, path in paths.items() if path.exists()}
    return {algorithm: {key: of[key] for key in ("seed", "spec")} for algorithm, of in found.items() if "spec" in of}


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
