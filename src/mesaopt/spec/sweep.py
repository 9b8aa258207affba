"""A sweep of the user's own (`sweep:` in config.yaml): one run, trained over a grid of any of its settings.

Every point is a run like any other. Where a setting is one of the task's, the point has a task of its own, named after it.
"""

import copy
import dataclasses
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from mesaopt.errors import InputError, unknown
from mesaopt.spec.entries import EXPERIMENTS
from mesaopt.spec.grid import PARTS, Point, at, points, shown, spelled
from mesaopt.spec.json import Spec
from mesaopt.spec.run import Task

TASK_SETTINGS = tuple(field.name for field in dataclasses.fields(Task) if field.name not in ("name", "kind"))
MODEL_SETTINGS = ("depth", *PARTS["model"])
SETTINGS = (*TASK_SETTINGS, *MODEL_SETTINGS, *PARTS["training"])
#: what may be drawn over the grid: the test loss at the end, the loss at the last position, and the error of a probe there
TABLES = {"test_loss": "history", "mse": "loss", "target_probe": "probes", "preconditioning_probe": "probes"}
PANELS = tuple(TABLES)
_FOLLOW = "what must change with a swept setting stands beside it, such as with: {d_model: {4: 16, 6: 24}}"


@dataclass(frozen=True)
class Sweep(Spec):
    """`points` are the values of every trained run, by its name; `over` are the swept settings, the first one drawn along x;
    `diverged` are the points that are left out because their trainings diverged, in words.
    """

    run: str
    over: tuple[str, ...]
    panel: str
    points: Mapping[str, Mapping[str, Any]]
    diverged: tuple[str, ...] = ()

    @property
    def table(self) -> str:
        """The kind of table beside a run's weights that the panel shows."""
        return TABLES[self.panel]

    def without(self, diverged: Collection[str]) -> "Sweep":
        """The same without these runs."""
        points = {run: point for run, point in self.points.items() if run not in diverged}
        words = [" and ".join(f"{key} {shown(value)}" for key, value in self.points[run].items()) for run in diverged]
        return dataclasses.replace(self, points=points, diverged=tuple(words))


def add_sweep(
    asked: Mapping[str, Any], runs: dict[str, dict[str, Any]], tasks: dict[str, Task], texts: Collection[str] = ()
) -> Sweep:
    """Add the runs and tasks of a sweep to those of a plan; `texts` are the names before the / of runs on text.

    Raises `InputError` for names that do not exist, for a run on text, and for a point whose settings contradict each other.
    """
    name, over, follow, panel = asked["run"], asked["over"], asked.get("with") or {}, asked.get("panel", PANELS[0])
    if name not in runs and name.partition("/")[0] in texts:
        raise InputError(f"sweep: run: {name} is a run on text; only runs on systems can be swept, such as {next(iter(runs))}")
    if name not in runs:
        raise InputError(f"sweep: run: {unknown(name, 'run', list(runs), EXPERIMENTS)}")
    if panel not in PANELS:
        raise InputError(f"sweep: panel: {unknown(panel, 'panel', list(PANELS))}")
    for key in (*over, *follow):
        if key not in SETTINGS:
            raise InputError(f"sweep: {unknown(key, 'setting', list(SETTINGS), 'config/README.md')}")
    found: dict[str, Point] = {}
    for point in points("sweep", over):
        settings = point | at(follow, point, "sweep: with")
        try:
            task, entry = _entry(runs[name], tasks, point, settings)
        except InputError as error:
            if str(error).startswith("sweep: "):
                raise
            raise of_a_point(error, over, _hint(tasks[runs[name]["task"]], over, follow)) from None
        tasks[task.name] = task
        full = f"{task.name}/{name.partition('/')[2]}{_suffix(point, set(SETTINGS) - set(TASK_SETTINGS))}-sweep"
        runs[full] = entry
        found[full] = point
    return Sweep(name, tuple(over), panel, found)


def of_a_point(error: InputError, over: Collection[str], hint: str = _FOLLOW) -> InputError:
    """The error of one point of a sweep; with a hint what to write where it names a setting that is not swept itself."""
    beside = set(re.findall(r"\w+", str(error))) & set(SETTINGS) - set(over)
    return InputError(f"sweep: {error}{f'; {hint}' if beside else ''}")


def _entry(
    base: Mapping[str, Any], tasks: Mapping[str, Task], point: Point, settings: Mapping[str, Any]
) -> tuple[Task, dict[str, Any]]:
    """The task and the entry of one point, with all that `settings` say."""
    entry, task = copy.deepcopy(dict(base)), tasks[base["task"]]
    changed = {key: value for key, value in settings.items() if key in TASK_SETTINGS}
    if changed:
        task = Task.from_dict(task.to_dict() | changed | {"name": task.name + _suffix(point, set(TASK_SETTINGS))})
    for key, value in settings.items():
        part = next((part for part, keys in PARTS.items() if key in keys), None)
        if key == "depth":
            entry["model"]["layers"] = _repeated(entry["model"]["layers"], value)
        elif part is not None:
            entry[part][key] = value
    return task, entry | {"task": task.name}


def _hint(task: Task, over: Mapping[str, Any], follow: Mapping[str, Any]) -> str:
    """What to write where a point of the sweep cannot be: of states smaller than observations, these for every value."""
    sizes = over.get("n_state", [])
    if "n_obs" in over or "n_obs" in follow or all(isinstance(n, int) and n >= task.n_obs for n in sizes):
        return _FOLLOW
    values = ", ".join(f"{n}: {min(n, task.n_obs)}" for n in sizes)
    return f"n_obs must change with it: with: {{n_obs: {f'{{{values}}}' if len(over) == 1 else f'{{n_state: {{{values}}}}}'}}}"


def _suffix(point: Point, settings: set[str]) -> str:
    return "".join(f"-{key.replace('_', '-')}-{spelled(value)}" for key, value in point.items() if key in settings)


def _repeated(layers: list[str], depth: Any) -> list[str]:
    if len(set(layers)) > 1 or not isinstance(depth, int) or depth < 1:
        raise InputError(f"sweep: depth: {depth!r} layers of {' and '.join(dict.fromkeys(layers))}: one kind of layer, a number")
    return layers[:1] * depth
