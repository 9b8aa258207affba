"""Frozen dataclasses in and out of canonical JSON."""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from mesaopt.errors import InputError, unknown

#: names of runs and hand-written algorithms become folders below the results, and must not lead anywhere else
TASK_NAME = re.compile(r"[a-z0-9_-]+")
NAME = re.compile(rf"{TASK_NAME.pattern}/[a-z0-9-]+")

#: a spec (not `Self`: the checker of annotations in tests sees methods one by one)
S = TypeVar("S", bound="Spec")


def require(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(message)


def require_name(name: str) -> None:
    require(bool(NAME.fullmatch(name)), f"name {name!r}: must be task/name of lower-case letters, digits, - (and _ in the task)")


class Spec:
    """Settings that everything computed from them depends on: a frozen dataclass with canonical JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Every setting, for files that are read by people and by later versions."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    def to_json(self) -> str:
        """The identity: what differs from the defaults."""
        return json.dumps(self._said(), sort_keys=True, separators=(",", ":"))

    def _said(self) -> dict[str, Any]:
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        said = {name: value for name, value in fields.items() if value != self._default(name)}
        return {name: value._said() if isinstance(value, Spec) else value for name, value in said.items()}

    def _default(self, name: str) -> Any:
        """The default of a setting; `MISSING`, which equals nothing, where it must be given."""
        return next(field.default for field in dataclasses.fields(self) if field.name == name)  # type: ignore[arg-type]

    @classmethod
    def from_dict(cls: type[S], values: Mapping[str, Any]) -> S:
        """Build from a mapping; unknown, missing or wrongly typed entries raise `InputError`."""
        return _build(cls, values)

    @classmethod
    def from_json(cls: type[S], text: str) -> S:
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"not a {cls.__name__.lower()} spec: {error}") from None
        return cls.from_dict(values)


_NUMBERS: dict[Any, tuple[type, ...]] = {int: (int,), float: (int, float), str: (str,)}


def _build(cls: type, values: Any) -> Any:
    label = cls.__name__.lower()
    require(isinstance(values, Mapping), f"a {label} spec must be a mapping, not {type(values).__name__}")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            raise InputError(f"{label}: {unknown(key, 'key', list(fields))}")
    for key, field in fields.items():
        require(key in values or field.default is not dataclasses.MISSING, f"a {label} spec needs {key!r}")
    return cls(**{key: _convert(label, key, fields[key].type, value) for key, value in values.items()})


def _convert(label: str, key: str, kind: Any, value: Any) -> Any:
    if kind == tuple[str, ...]:
        require(
            isinstance(value, list | tuple) and all(isinstance(v, str) for v in value), f"{label}: {key} must be a list of names"
        )
        return tuple(value)
    if getattr(kind, "__origin__", None) is Mapping:
        require(isinstance(value, Mapping), f"{label}: {key} must be a mapping, not {value!r}")
        return dict(value)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _build(kind, value)
    options = getattr(kind, "__args__", (kind,))
    if value is None and type(None) in options:
        return None
    base = next(option for option in options if option is not type(None))
    good = isinstance(value, _NUMBERS[base]) and not isinstance(value, bool)
    require(good, f"{label}: {key} must be {base.__name__}, not {value!r}")
    return base(value)
