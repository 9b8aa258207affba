"""From the files in config/ to the runs of a scale: sweeps expanded, overrides applied, everything checked.

A `Plan` is what the workflow asks: the seeds, the specs of all runs and hand-written algorithms, the number of sequences.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from mesaopt.errors import InputError, unknown
from mesaopt.spec import stages
from mesaopt.spec.algorithm import Theory
from mesaopt.spec.analysis import Analysis, Probe
from mesaopt.spec.arguments import load
from mesaopt.spec.beginnings import inherit, taken
from mesaopt.spec.entries import EXPERIMENTS, expand, fitting, named_entries, override
from mesaopt.spec.json import Spec
from mesaopt.spec.language import LanguageRun
from mesaopt.spec.language_plan import LanguagePlan, language_looks, language_plan
from mesaopt.spec.look import Look, without_look
from mesaopt.spec.run import Run, Task, Training
from mesaopt.spec.sweep import Sweep, add_sweep, of_a_point

#: settings of a stage by pattern over names of runs
Analyses = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Plan:
    """Everything that a scale computes.

    Hand-written algorithms are learned with `learning_seed`, the first of the scale's own seeds: whatever part of these is
    computed, it is held against the same algorithms.
    """

    scale: str
    seeds: tuple[int, ...]
    learning_seed: int
    tasks: dict[str, Task]
    sequences: dict[str, int]
    #: counts by pattern over names of tasks, where they are others
    sequences_of: dict[str, dict[str, int]]
    runs: dict[str, Run]
    theory: dict[str, Theory]
    interpolations: dict[str, str]
    #: second trainings whose heads are matched with those of the first, and which
    matchings: dict[str, str]
    #: runs that are taken from the first steps of a longer one, and which
    beginnings: dict[str, str]
    sweep: Sweep | None
    analyses: dict[str, Analyses]
    #: how figures call and draw every run and hand-written algorithm, less the runs that figures of the scale do without
    looks: dict[str, Look]
    language: LanguagePlan

    def sequences_for(self, task: str) -> dict[str, int]:
        """Sequences per seed and split of a task; later patterns win."""
        changes = [counts for pattern, counts in self.sequences_of.items() if fnmatchcase(task, pattern)]
        return {**self.sequences, **{split: n for counts in changes for split, n in counts.items()}}

    def run(self, name: str) -> Run:
        return _pick(self.runs, name, "run")

    def any_run(self, name: str) -> Run | LanguageRun:
        """A run on systems or on text."""
        return _pick(self.runs | self.language.runs, name, "run")

    def analysis(self, stage: str, run: str) -> Spec:
        """The settings of a stage for a run; raises `InputError` for values that cannot be, or not for this run."""
        kind: type[Spec] = load(_settings_of(stage))
        changes = [of for pattern, of in self.analyses.get(stage, {}).items() if fnmatchcase(run, pattern)]
        try:
            settings = kind.from_dict({key: value for of in changes for key, value in of.items()})
            if isinstance(settings, Analysis):
                settings.check(self.run(run))
            return settings
        except InputError as error:
            raise InputError(f"analyses: {stage}: {error}") from None

    def preconditioner(self, run: str, form: str = "textbook") -> str:
        """The hand-written algorithm of that form that the probes of a run use: one of its own task, unless the settings name
        another task.

        Raises `InputError` when there is none of that name, or it is of the other form.
        """
        settings = self.analysis("probe", run)
        assert isinstance(settings, Probe)
        key = "published_preconditioner" if form == "published" else "preconditioner"
        named = getattr(settings, key)
        name = named if "/" in named else f"{run.partition('/')[0]}/{named}"
        where = f"analyses: probe: {key} of {run}"
        if name not in self.theory:
            raise InputError(f"{where}: {unknown(name, 'theory entry', list(self.theory), EXPERIMENTS)}")
        if self.theory[name].form != form:
            raise InputError(f"{where}: {name} is of the {self.theory[name].form} form, not the {form} one")
        return name

    def algorithm(self, name: str) -> Theory:
        return _pick(self.theory, name, "theory entry")


def resolve(experiments: Mapping[str, Any], scales: Mapping[str, Any], config: Mapping[str, Any], scale: str) -> Plan:
    """The plan of `scale`: experiments.yaml, then the scale's overrides, then the user's.

    Raises `InputError` for unknown names, patterns that match nothing, and values that no spec allows.
    """
    if scale not in scales:
        raise InputError(unknown(scale, "scale", [*scales, "recorded"]))
    layers = [(f"scale {scale}", scales[scale]), ("config", config)]
    entries = {part: named_entries(experiments[part]) for part in ("runs", "theory")}
    named = inherit(entries["runs"])
    for source, layer in layers:
        for part, table in entries.items():
            override(table, layer.get(part) or {}, f"{source}: {part}")
    tasks = _tasks(experiments["tasks"], f"scale {scale}: tasks", scales[scale].get("tasks") or {})
    texts = list(experiments.get("texts") or {})
    sweep = add_sweep(config["sweep"], entries["runs"], tasks, texts) if config.get("sweep") else None
    runs = {name: _run(name, values, tasks, sweep) for name, values in entries["runs"].items()}
    theory = {name: _theory(name, values, tasks) for name, values in entries["theory"].items()}
    language = language_plan(experiments, layers)
    return Plan(
        scale=scale,
        seeds=_seeds(config.get("seeds") or scales[scale]["seeds"]),
        learning_seed=_seeds(scales[scale]["seeds"])[0],
        tasks=tasks,
        sequences={**experiments["sequences"], **scales[scale].get("sequences", {})},
        sequences_of=_sequences_of([("experiments.yaml", experiments), *layers[:1]], list(tasks)),
        runs=runs,
        theory=_with_scalars(theory),
        interpolations=_pairs(experiments, "interpolations", runs),
        matchings=_pairs(experiments, "matchings", runs),
        beginnings=taken(named, runs),
        sweep=sweep,
        analyses=_analyses([("experiments.yaml", experiments), *_of_sweep(sweep), *layers], list(runs), list(theory)),
        looks=_without(_looks(entries) | language.looks, scales[scale].get("without") or (), [*runs, *language.runs], scale),
        language=language,
    )


def looks(experiments: Mapping[str, Any]) -> dict[str, Look]:
    """How runs and hand-written algorithms look by experiments.yaml alone, whatever scale they are computed at."""
    entries = {part: named_entries(experiments[part]) for part in ("runs", "theory")}
    inherit(entries["runs"])
    return _looks(entries) | language_looks(experiments)


def _looks(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Look]:
    return {name: Look.of(name, entry) for table in entries.values() for name, entry in table.items()}


def _without(looks: dict[str, Look], patterns: Sequence[str], runs: list[str], scale: str) -> dict[str, Look]:
    """Those of all but the runs that figures of a scale do without. Raises `InputError` for a pattern that matches no run."""
    absent = fitting(runs, patterns, f"scale {scale}: without", "run")
    return {name: look for name, look in looks.items() if name not in absent}


def _pick(table: Mapping[str, Any], name: str, kind: str) -> Any:
    if name not in table:
        raise InputError(unknown(name, kind, list(table), EXPERIMENTS))
    return table[name]


def _seeds(seeds: Any) -> tuple[int, ...]:
    good = (
        isinstance(seeds, list | tuple)
        and seeds
        and all(isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in seeds)
    )
    if not good:
        raise InputError(f"seeds must be a list of whole numbers, not {seeds!r}")
    if len(set(seeds)) < len(seeds):
        raise InputError(f"seeds must differ from each other: {seeds}")
    return tuple(seeds)


def _tasks(entries: Mapping[str, Any], where: str, changes: Mapping[str, Any]) -> dict[str, Task]:
    expanded = expand(entries)
    override(expanded, changes, where)
    return {name: Task.from_dict({**values, "name": name}) for name, values in expanded.items()}


def _named(kind: Any, name: str, values: Mapping[str, Any], tasks: Mapping[str, Task]) -> Any:
    task = values.get("task")
    if not isinstance(task, str) or task not in tasks:
        raise InputError(f"{name}: {unknown(task, 'task', list(tasks), EXPERIMENTS)}")
    if name.split("/")[0] != task:
        raise InputError(f"{name}: belongs to task {task}, so its name must begin with {task}/")
    try:
        return kind.from_dict({**without_look(values), "name": name, "task": tasks[task].to_dict()})
    except InputError as error:
        raise InputError(f"{name}: {str(error).removeprefix(f'{name}: ')}") from None  # some checks know the name


def _run(name: str, values: Mapping[str, Any], tasks: Mapping[str, Task], sweep: Sweep | None) -> Run:
    try:
        run: Run = _named(Run, name, values, tasks)
        _check_schedule(name, run.training)
    except InputError as error:
        raise (of_a_point(error, sweep.over) if sweep and name in sweep.points else error) from None
    return run


def _theory(name: str, values: Mapping[str, Any], tasks: Mapping[str, Task]) -> Theory:
    theory: Theory = _named(Theory, name, values, tasks)
    if theory.descends:
        _check_schedule(name, theory)
    return theory


def _with_scalars(theory: dict[str, Theory]) -> dict[str, Theory]:
    """Checks that alpha and beta are taken from an algorithm that learns such."""
    for name, one in theory.items():
        if one.scalars:
            other: Theory = _pick(theory, one.scalars, f"theory entry in scalars of {name}")
            if not other.descends or (other.n_steps, other.form) != (one.n_steps, one.form):
                raise InputError(f"{name}: scalars: {other.name} learns no {one.n_steps} pairs of the {one.form} form")
    return theory


def _check_schedule(name: str, settings: Training | Theory) -> None:
    """A cosine needs steps after its warm-up."""
    end = settings.horizon or settings.steps
    if settings.final_lr is not None and end <= settings.warmup:
        last = "horizon" if settings.horizon else "steps"
        raise InputError(
            f"{name}: a cosine to final_lr {settings.final_lr} begins after the warm-up: warmup {settings.warmup} contradicts"
            f" {last} {end}"
        )


def _of_sweep(sweep: Sweep | None) -> list[tuple[str, Mapping[str, Any]]]:
    """A swept task has learned no algorithm of its own: its probes use that of the task that it was made from."""
    task = sweep.run.partition("/")[0] if sweep else ""
    others = [run for run in (sweep.points if sweep else ()) if not run.startswith(f"{task}/")]
    default = Probe()
    algorithms = {key: f"{task}/{getattr(default, key)}" for key in ("preconditioner", "published_preconditioner")}
    probe = dict.fromkeys(others, algorithms)
    return [("sweep", {"analyses": {"probe": probe}})] if probe else []


def _sequences_of(layers: Sequence[tuple[str, Mapping[str, Any]]], tasks: list[str]) -> dict[str, dict[str, int]]:
    """Counts by pattern over names of tasks: those of experiments.yaml, then the scale's."""
    found: dict[str, dict[str, int]] = {}
    for source, layer in layers:
        for pattern, counts in (layer.get("sequences_of") or {}).items():
            if not any(fnmatchcase(task, pattern) for task in tasks):
                raise InputError(f"{source}: sequences_of: {unknown(pattern, 'task', tasks, EXPERIMENTS)}")
            found[pattern] = {**found.pop(pattern, {}), **counts}
    return found


def _analyses(layers: Sequence[tuple[str, Mapping[str, Any]]], runs: list[str], theory: list[str]) -> dict[str, Analyses]:
    """Settings by stage and pattern over names of runs: those of experiments.yaml, then the scale's, then the user's.

    Raises `InputError` for a stage, a pattern and a key that would change nothing.
    """
    found: dict[str, Analyses] = {}
    for source, layer in layers:
        for stage, patterns in (layer.get("analyses") or {}).items():
            try:
                known = list(_fields_of(stage))
            except InputError as error:
                raise InputError(f"{source}: analyses: {error}") from None
            where = f"{source}: analyses: {stage}"
            names, kind = ([*runs, *theory], "run or theory entry") if _is_of_algorithms(stage) else (runs, "run")
            for pattern, settings in patterns.items():
                fitting(names, [pattern], where, kind)
                for key in settings:
                    if key not in known:
                        raise InputError(f"{where}: {pattern}: {unknown(key, 'key', known)}")
                # later ones win: they come last
                before = found.setdefault(stage, {}).pop(pattern, {})
                found[stage][pattern] = {**before, **settings}
    return found


def _settings_of(stage: str) -> str:
    """Which class the settings of an analysis are of; it is imported when it is needed."""
    known = {entry.name: entry.settings for entry in stages.analyses() if entry.settings}
    found: str = _pick(known, stage, "analysis")
    return found


def _fields_of(stage: str) -> tuple[str, ...]:
    """The keys of an analysis' settings."""
    return tuple(field.name for field in dataclasses.fields(load(_settings_of(stage))))


def _is_of_algorithms(stage: str) -> bool:
    """Whether hand-written algorithms have these settings too: they are scored like trained runs."""
    return any(entry.of == "algorithm" and entry.settings == _settings_of(stage) for entry in stages.STAGES)


def _pairs(experiments: Mapping[str, Any], key: str, runs: Mapping[str, Run]) -> dict[str, str]:
    pairs: Mapping[str, str] = experiments.get(key) or {}
    for second, first in pairs.items():
        following, before = (_pick(runs, name, f"run in {key}") for name in (second, first))
        if (following.task, following.model) != (before.task, before.model):
            raise InputError(f"{key}: {second} and {first} must have one task and one model, theirs differ")
    return dict(pairs)
