"""The tables of a finished run at paper settings become the recorded ones, which ship with the project.

Tables and their provenance are kept, small, tidy, and enough to redraw every figure, and with them the trained weights that their
values come from. Training seeds may come in parts, from several nights or machines: each time, the new seeds are added to those
that are recorded.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mesaopt.agreement.published import read_entries
from mesaopt.errors import InputError
from mesaopt.figures.records import read_json
from mesaopt.figures.registry import FIGURES, figure
from mesaopt.recording import weights
from mesaopt.recording.union import difference, unite
from mesaopt.recording.union_facts import LISTS, Made
from mesaopt.spec.arguments import File
from mesaopt.spec.files import RECORD, TABLE
from mesaopt.spec.yaml_files import read_yaml
from mesaopt.store.digests import forget_digest
from mesaopt.store.environment import PROJECT
from mesaopt.store.former import move_records
from mesaopt.store.git import GitError, changes
from mesaopt.store.provenance import write_json
from mesaopt.store.tables import atomic_path, read_table, write_table


@dataclass(frozen=True)
class Step:
    """What becomes of a figure, and the `line` that says so: the new table is `copied`, or a `union` written; else nothing."""

    name: str
    line: str
    copied: bool = False
    union: Made | None = None


def record(
    results: Path,
    recorded: Path,
    replace: Sequence[str] = (),
    project: Path = PROJECT,
    *,
    weights_up_to: float = weights.BOUND,
) -> None:
    """Record every finished figure table of `results` with its provenance and the weights behind it (up to so many megabytes a
    seed), and the comparison with published curves.

    Where seeds of the same settings are recorded already, the result is the union; where settings or content differ, the new
    table takes the place of the recorded one, but none of another scale that of paper settings. Says in one line what each
    figure's state is. Verdicts on claims are not kept: they are judged anew on what is recorded.

    Raises `InputError`, before anything is written, when the work tree has changes (the commit would not describe what was run),
    when there is nothing to record, when a table is damaged or was made by changed code, and when recorded seeds would be lost
    of a figure that is not in `replace`.
    """
    for name in replace:
        figure(name)
    _refuse_changes(recorded)
    for folder in (results, recorded):
        move_records(folder)
    finished = [name for name in FIGURES if (results / _place(TABLE, name)).exists()]
    if not finished:
        raise InputError(f"{results}/tables holds no finished figure; run `snakemake all --config scale=paper` first")
    order = read_yaml(project / "config/scales.yaml")["paper"]["seeds"]
    steps = [_step(name, results, recorded, name in replace, order) for name in finished]
    found = [weights.copies(step.name, _facts(step, results, recorded), results, recorded, weights_up_to) for step in steps]
    curves = _curves(results, recorded, steps, {entry.figure for entry in read_entries(project)})
    _write_curves(curves, recorded / "curves.parquet")  # before the tables: being older, it is made anew where there are curves
    for step in steps:
        _write(step, results, recorded)
    weights.write(found, recorded)
    for name in FIGURES:
        if name not in finished:
            print(f"{name}: not finished in {results}, not recorded")


def _refuse_changes(recorded: Path) -> None:
    home = next(folder for folder in (recorded.absolute(), *recorded.absolute().parents) if folder.is_dir())
    try:
        found = changes(home, ":/")
    except GitError as error:
        why = "the tables are stored with the commit that made them"
        raise InputError(f"recording needs a git work tree, because {why}; git says: {error}") from None
    if found:
        raise InputError(f"the work tree has changes ({found[0].strip()}, ...): commit them, then record")


# --- tables
def _step(name: str, results: Path, recorded: Path, replace: bool, order: Sequence[int]) -> Step:
    new = _read(results, name)
    if new.facts.get("dirty") is not False or "unknown" in new.facts.get("commits", ["unknown"]):
        where = "; git said: ".join([f"{results / _place(RECORD, name)}", *new.facts.get("git", [])[:1]])
        raise InputError(f"{name}: some of its results come from changed or unknown code ({where}); train them from a commit")
    print(f"{name}: {len(new.table)} values, {_words(new.seeds)}", file=sys.stderr)
    if not (recorded / _place(TABLE, name)).exists():
        return Step(name, "recorded", copied=True)
    old = _read(recorded, name)
    lost, why = old.seeds - new.seeds, difference(old, new)
    if old.facts["scale"] == "paper" != new.facts["scale"] and not replace:
        return Step(name, f"stays as recorded, at paper settings; the new one is of scale {new.facts['scale']}")
    if replace:
        return Step(name, f"recorded in place of the former one{f', {_words(lost)} dropped' if lost else ''}", copied=True)
    if why is None:
        return _joined(name, old, new, unite(name, old, new, order))
    if lost:
        raise InputError(
            f"{name}: nothing is recorded, because {_words(lost)} of the recorded table would be lost: the new one"
            f" cannot be joined with it, {why}; to drop them:"
            f" python -m mesaopt record --results {results} --recorded {recorded} --replace {name}"
        )
    return Step(name, f"recorded in place of the former one: {why}", copied=True)


def _joined(name: str, old: Made, new: Made, union: Made) -> Step:
    if union is new:
        return Step(name, "recorded", copied=True)
    if union is old:
        return Step(name, f"stays as recorded: it shows one seed, and {_words(old.seeds)} comes before {_words(new.seeds)}")
    again, added = old.seeds & new.seeds, new.seeds - old.seeds
    done = [f"{_words(seeds)} {what}" for seeds, what in ((added, "added"), (again, "made anew")) if seeds]
    return Step(name, f"recorded, {' and '.join(done)}: now {_words(union.seeds)}", union=union)


def _read(folder: Path, name: str) -> Made:
    table, provenance = (folder / _place(file, name) for file in (TABLE, RECORD))
    made = Made(read_table(table, "figure"), read_json(provenance))
    if missing := [key for key in ("scale", "seeds", "runs", "training_hours", "versions", *LISTS) if key not in made.facts]:
        raise InputError(f"{provenance}: not the provenance of a figure (no {', '.join(missing)}); collect the figure again")
    return made


def _write(step: Step, results: Path, recorded: Path) -> None:
    table, provenance = (_place(file, step.name) for file in (TABLE, RECORD))
    if step.copied:
        for source in (table, provenance):
            with atomic_path(recorded / source) as temporary:
                temporary.write_bytes((results / source).read_bytes())
    elif step.union is not None:
        write_table(step.union.table, "figure", recorded / table)
        write_json(recorded / provenance, step.union.facts)
    print(f"{step.name}: {step.line}")


def _facts(step: Step, results: Path, recorded: Path) -> dict[str, Any]:
    """The provenance that will be recorded."""
    return step.union.facts if step.union else read_json((results if step.copied else recorded) / _place(RECORD, step.name))


def _place(file: File, name: str) -> Path:
    return Path(file.place.format(figure=name))


def _words(seeds: set[int]) -> str:
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, sorted(seeds)))}"


# --- the comparison with published curves
def _curves(results: Path, recorded: Path, steps: Sequence[Step], published: set[str]) -> tuple[pd.DataFrame, list[str]]:
    """The rows of table `curves` that belong to what will be recorded, and the figures with published curves that lack theirs."""
    old, new = (_rows(folder / "curves.parquet") for folder in (recorded, results))
    changed = [step.name for step in steps if step.copied or step.union is not None]
    rows = [old[~old["figure"].isin(changed)], new[new["figure"].isin([step.name for step in steps if step.copied])]]
    found = pd.concat([part for part in rows if len(part)] or [old.head(0)], ignore_index=True)
    found = found.sort_values("figure", key=lambda names: names.map(list(FIGURES).index), kind="stable")
    wanted = published - set(found["figure"]) if len(old) or len(new) else set()
    return found, [name for name in changed if name in wanted]


def _rows(path: Path) -> pd.DataFrame:
    return read_table(path, "curves") if path.exists() else pd.DataFrame({"figure": pd.Series(dtype="object")})


def _write_curves(curves: tuple[pd.DataFrame, list[str]], path: Path) -> None:
    rows, missing = curves
    if len(rows):
        write_table(rows, "curves", path)
        print(f"comparison with published curves: recorded for {', '.join(dict.fromkeys(rows['figure']))}")
    else:
        path.unlink(missing_ok=True)
        forget_digest(path)
    if missing:
        again = "snakemake agreement --config scale=recorded published_tables=FOLDER"
        print(f"comparison with published curves: to be made for {', '.join(missing)}: {again}")
