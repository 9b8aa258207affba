"""Trained weights behind recorded figures, with spec, provenance and losses: whoever has them reads models without training any.

They lie in results/recorded/weights/, a folder per run and seed, parameters of hand-written algorithms in folders of their own.
Nothing lists them: weights stand behind a figure if spec, seed, commit and hours beside them are those in the figure's JSON.
"""

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesaopt.errors import InputError
from mesaopt.figures.records import read_json
from mesaopt.figures.registry import FIGURES
from mesaopt.spec.arguments import File
from mesaopt.spec.files import HISTORY, PARAMETERS, PROVENANCE, RECORD, SPEC, WEIGHTS, recorded_place
from mesaopt.spec.run import Run, read_spec
from mesaopt.store.digests import require_intact
from mesaopt.store.tables import atomic_path

#: megabytes (10^6 bytes) of weights of one seed that are recorded unless more is asked for
BOUND = 1.0


@dataclass(frozen=True)
class Training:
    """A run and seed behind a figure, and what the figure's JSON says of it: `spec`, `hours` and the possible `commits`."""

    run: str
    seed: int
    spec: Mapping[str, Any]
    hours: float | None
    commits: tuple[str, ...]

    def below(self, results: Path, file: File) -> Path:
        return results / file.place.format(run=self.run, seed=self.seed)

    def recorded(self, recorded: Path, file: File) -> Path:
        return recorded / recorded_place(file).format(run=self.run, seed=self.seed)

    def lies_in(self, folder: Path) -> bool:
        """Whether `folder` holds this training and no other of the same settings: hours are kept to 0.36 seconds."""
        try:
            found, told = read_spec(folder / "spec.json"), read_json(folder / "provenance.json")
            asked = Run.from_dict(dict(self.spec))
        except InputError:
            return False
        hours = told.get("wall_seconds", 0.0) / max(1, len(told.get("pack", []))) / 3600
        same = self.hours == round(hours, 4) and told.get("commit") in self.commits
        return same and found == (asked, self.seed) and (folder / "weights.safetensors").is_file()


def trainings(facts: Mapping[str, Any]) -> Iterator[Training]:
    """All trainings behind a figure, from its JSON, but for those of language models, whose weights are not recorded."""
    for run, of in facts["runs"].items():
        for seed in () if on_text(of["spec"]) else of["seeds"]:
            yield Training(run, seed, of["spec"], of.get("hours", {}).get(str(seed)), tuple(facts["commits"]))


def on_text(spec: Mapping[str, Any]) -> bool:
    """Whether a run's spec is that of a language model."""
    return "corpora" in spec.get("task", {})


@dataclass(frozen=True)
class Copies:
    """Files to be copied for a figure, by where they go, and the `lines` that say what of its weights is recorded."""

    files: dict[Path, Path]
    lines: list[str]


def copies(name: str, facts: Mapping[str, Any], results: Path, recorded: Path, bound: float) -> Copies:
    """What is to be recorded of the weights behind figure `name`, whose JSON says `facts`: at most `bound` megabytes a seed.

    Nothing is written. Raises `InputError` when weights are damaged.
    """
    files = _parameters(facts, results, recorded)
    kept: list[Training] = []
    large: list[Training] = []
    gone: list[Training] = []
    sizes = [0.0]
    for one in trainings(facts):
        weights = one.below(results, WEIGHTS)
        if not one.lies_in(weights.parent):
            (kept if one.lies_in(one.recorded(recorded, WEIGHTS).parent) else gone).append(one)
        elif (size := weights.stat().st_size / 1e6) > bound:
            large.append(one)
            sizes.append(size)
        else:
            kept.append(one)
            # weights come last: where they are, the rest is
            files |= {one.recorded(recorded, of): one.below(results, of) for of in (HISTORY, SPEC, PROVENANCE, WEIGHTS)}
    for path in files.values():
        require_intact(path)
    more = f"python -m mesaopt record --results {results} --recorded {recorded} --weights-up-to {math.ceil(max(sizes) * 10) / 10}"
    lines = [
        (kept, "weights recorded of {}"),
        (large, f"weights over {bound:g} MB a seed are not recorded, of {{}}; they are by: {more}"),
        (gone, f"no weights of {{}}: the trainings that its values come from are not in {results / 'runs'}"),
    ]
    said = [f"{name}: {line.format(_words(of))}" for of, line in lines if of]
    if language := [run for run, of in facts["runs"].items() if on_text(of["spec"])]:
        said.append(f"{name}: weights of language models are not recorded: {', '.join(language)}")
    return Copies(files, said)


def _parameters(facts: Mapping[str, Any], results: Path, recorded: Path) -> dict[Path, Path]:
    """Those of every learned algorithm of the figure's tasks: probes read some that are no curve of it."""
    found: dict[Path, Path] = {}
    for task in dict.fromkeys(run.partition("/")[0] for run in facts["runs"]):
        for path in sorted((results / "theory" / task).glob("*/parameters.parquet")):
            there = recorded / recorded_place(PARAMETERS).format(algorithm=f"{task}/{path.parent.name}")
            found |= {there.with_suffix(suffix): path.with_suffix(suffix) for suffix in (".json", ".parquet")}
    return {there: path for there, path in found.items() if path.exists()}


def _words(found: Sequence[Training]) -> str:
    """Runs with their seeds."""
    seeds: dict[str, list[str]] = {}
    for one in found:
        seeds.setdefault(one.run, []).append(str(one.seed))
    return ", ".join(f"{run} ({', '.join(of)})" for run, of in seeds.items())


def write(found: Sequence[Copies], recorded: Path) -> None:
    """Copy, say what is there, and remove what stands behind no recorded figure any more."""
    before = behind(recorded)
    for there, path in {there: path for one in found for there, path in one.files.items()}.items():
        with atomic_path(there) as temporary:
            temporary.write_bytes(path.read_bytes())
    for line in (line for one in found for line in one.lines):
        print(line)
    now = behind(recorded)
    for name, of in before.items():
        if lost := [one for one in of if one in trainings(_facts(recorded, name)) and one not in now[name]]:
            print(f"{name}: weights of {_words(lost)} gave way to those of other trainings; the recorded table stays")
    used = {one.recorded(recorded, WEIGHTS).parent for of in now.values() for one in of}
    for folder in sorted(path.parent for path in (recorded / "weights").glob("*/*/seed-*/weights.safetensors")):
        if folder not in used:
            shutil.rmtree(folder)
            print(f"{folder}: behind no recorded figure any more, removed")


def behind(recorded: Path) -> dict[str, list[Training]]:
    """By recorded figure, the trainings behind it whose weights are recorded."""
    names = [name for name in FIGURES if (recorded / RECORD.place.format(figure=name)).exists()]
    return {
        name: [one for one in trainings(_facts(recorded, name)) if one.lies_in(one.recorded(recorded, WEIGHTS).parent)]
        for name in names
    }


def _facts(recorded: Path, name: str) -> dict[str, Any]:
    return read_json(recorded / RECORD.place.format(figure=name))
