"""Sweeps: one entry of a settings file that stands for several, over any of its settings."""

import copy
import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mesaopt.errors import InputError
from mesaopt.spec.algorithm import Theory
from mesaopt.spec.language import LanguageModel, LanguageTraining
from mesaopt.spec.run import Model, Training

#: the parts of an entry, and the settings in them
PARTS = {
    part: {field.name for kind in kinds for field in dataclasses.fields(kind)}
    for part, kinds in (("model", (Model, LanguageModel)), ("training", (Training, LanguageTraining)))
}
THEORY = {field.name for field in dataclasses.fields(Theory)}
#: a point of a sweep: swept setting -> value
Point = dict[str, Any]


def points(name: str, sweep: Mapping[str, Any]) -> Iterator[Point]:
    """Every combination of the values, in their order. Raises `InputError` for a setting without values."""
    for key, values in sweep.items():
        if not isinstance(values, list) or not values:
            raise InputError(f"{name}: sweep: {key} must be a list of values, not {values!r}")
    yield from (dict(zip(sweep, chosen, strict=True)) for chosen in itertools.product(*sweep.values()))


def shown(value: Any) -> str:
    """A value in words."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def spelled(value: Any) -> str:
    """A value as part of a name: 0.05 is 0p05, 2e-4 is 0p0002, a list of words is joined by -."""
    if isinstance(value, list | tuple):
        return "-".join(map(spelled, value))
    text = shown(value)
    return re.sub(r"[^a-z0-9-]+", "", text.lower().replace(".", "p").replace("+", ""))


def filled(name: str, point: Mapping[str, Any]) -> str:
    """The name with every {setting} replaced by its value."""
    for key, value in point.items():
        name = name.replace(f"{{{key}}}", spelled(value))
    return name


def at(values: Any, point: Mapping[str, Any], where: str) -> Any:
    """Settings at one point. What a swept setting decides is written in one of three ways:

    * a mapping from its values, {4: 16, 6: 24}; with several swept settings under the name of its own, {n_state: {4: 16, 6: 24}}
    * a multiple of it, 4*n_state
    * a name with its value in it, linear-n{n_state}

    Raises `InputError` where a mapping says nothing for the present value.
    """
    if isinstance(values, str):
        return _written(values, point)
    if not isinstance(values, Mapping):
        return copy.deepcopy(values)
    named = [key for key in point if list(values) == [key] and isinstance(values[key], Mapping)]
    alone = len(point) == 1 and bool(values) and all(map(_is_number, values))
    if not (named or alone):
        return {key: at(value, point, f"{where}: {key}") for key, value in values.items()}
    swept, choices = (named[0], values[named[0]]) if named else (next(iter(point)), values)
    if point[swept] not in choices:
        raise InputError(f"{where} has no value for {swept} {point[swept]}")
    return copy.deepcopy(choices[point[swept]])


def _written(text: str, point: Mapping[str, Any]) -> Any:
    match = re.fullmatch(r"(?:(\d+) *\* *)?(\w+)", text)
    if match and match[2] in point and _is_number(point[match[2]]):
        return int(match[1] or 1) * point[match[2]]
    return filled(text, point)


def _is_number(key: object) -> bool:
    return isinstance(key, int | float) and not isinstance(key, bool)


def placed(values: dict[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
    """An entry with the swept settings in their places: those of a model and of a training in these, `depth` repeats the layers,
    others at the top, unless the entry says itself what becomes of them.
    """
    for key, value in point.items():
        part = next((part for part, keys in PARTS.items() if key in keys and part in values), None)
        if key == "depth":
            values["model"]["layers"] = values["model"]["layers"] * value
        elif part is not None:
            values[part][key] = value
        elif "task" not in values or key in THEORY:  # settings of the task of a run or algorithm are the task's own
            values.setdefault(key, value)
    return values
