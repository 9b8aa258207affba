"""Where a figure comes from whose seeds were trained in several parts: what `records.describe` writes, for the union of tables.

It holds `parts`: the seeds that each one gave to the table, and the commits, machines, environments and hours behind these. What
it says of the whole is what its parts say.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mesaopt.figures.registry import figure, runs

#: what a part says of the trainings behind its seeds, as lists (`versions`: a list per package)
LISTS = ("commits", "devices", "environments", "machines")


@dataclass(frozen=True)
class Made:
    """The `figure` table of a figure, or rows of it, and the provenance beside it."""

    table: pd.DataFrame
    facts: dict[str, Any]

    @property
    def seeds(self) -> set[int]:
        return set(self.table["seed"].unique().tolist())


def single_panels(name: str) -> set[str]:
    """Panels of figure `name` that show one seed."""
    return {panel.name for panel in figure(name).panels if panel.seeds == "first"}


def united_facts(name: str, kept: Sequence[Made], seeds: Sequence[int]) -> dict[str, Any]:
    """Provenance of the rows kept of an older and a newer table of figure `name`; `seeds`: all of them, in their order."""
    parts = [part for made in kept for part in _parts(name, made, seeds)]
    libraries = sorted({library for part in parts for library in part["versions"]})
    older, newer = (made.facts for made in kept)
    return newer | {
        "seeds": list(seeds),
        **{fact: _distinct(part[fact] for part in parts) for fact in LISTS},
        "versions": {library: _distinct(part["versions"].get(library, []) for part in parts) for library in libraries},
        "training_hours": round(sum(part["training_hours"] for part in parts), 4),
        "runs": {run: _run(name, run, kept, seeds) for run in newer["runs"]},
        "algorithms": older.get("algorithms", {}) | newer.get("algorithms", {}),
        "parts": parts,
    }


def _parts(name: str, made: Made, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """The parts that a table was made of (itself, unless it is a union), as far as rows of their seeds are kept."""
    facts = made.facts
    itself = {key: facts[key] for key in ("seeds", "training_hours", "versions", *LISTS)}
    found = []
    for part in facts.get("parts", [itself]):
        if mine := [seed for seed in seeds if seed in made.seeds and seed in part["seeds"]]:
            found.append(part | {"seeds": mine} | _hours(part, facts["runs"], _behind(name, made)))
    return found


def _behind(name: str, made: Made) -> dict[str, list[int]]:
    """Run -> seeds of it behind the rows that are kept. Some runs stand behind panels of a single seed alone."""
    single = made.table["panel"].isin(single_panels(name))
    here = {"first": set(made.table.loc[single, "seed"]), "all": set(made.table.loc[~single, "seed"])}
    which = runs(name)
    return {run: [seed for seed in of["seeds"] if seed in here[which.get(run, "all")]] for run, of in made.facts["runs"].items()}


def _hours(part: Mapping[str, Any], of_runs: Mapping[str, Any], behind: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Hours of the trainings that are kept of a part. Where they were not recorded one by one: in proportion, and marked so."""
    every = [(run, seed) for run, of in of_runs.items() for seed in of["seeds"] if seed in part["seeds"]]
    kept = [(run, seed) for run, seed in every if seed in behind[run]]
    if len(kept) == len(every):
        return {}
    hours = [of_runs[run].get("hours", {}).get(str(seed)) for run, seed in kept]
    if None not in hours:
        return {"training_hours": round(sum(hours), 4)}
    return {"training_hours": round(part["training_hours"] * len(kept) / len(every), 4), "estimated": True}


def _run(name: str, run: str, kept: Sequence[Made], seeds: Sequence[int]) -> dict[str, Any]:
    """Spec of a run, its seeds behind the union, and their hours as far as they are known."""
    hours: dict[str, float] = {}
    behind: set[int] = set()
    for made in kept:
        mine = _behind(name, made)[run]
        behind.update(mine)
        known = made.facts["runs"][run].get("hours", {})
        hours |= {str(seed): known[str(seed)] for seed in mine if str(seed) in known}
    return kept[1].facts["runs"][run] | {"seeds": [seed for seed in seeds if seed in behind], "hours": hours}


def _distinct(lists: Iterable[Iterable[str]]) -> list[str]:
    return sorted({value for values in lists for value in values})
