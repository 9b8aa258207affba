"""What stages are called with: options of the command line, and files of results, each named once."""

import dataclasses
import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesaopt.errors import InputError


@dataclass(frozen=True)
class Option:
    """An argument that is no file of results. `told` is what argparse is told, as its `add_argument` takes it.

    The function's parameter is `dest`, by default the option's own name. Where `json` is given, the text is JSON or the name of
    a file with JSON: a mapping ("dict"), or what `from_json` of a class ("module:Class"), or a function ("module:function"),
    makes of it. With a `place` of its own it is given without its name.
    """

    name: str
    dest: str = ""
    json: str = ""
    exclusive: bool = False
    place: bool = False
    told: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dest", self.dest or self.name.replace("-", "_"))

    @property
    def required(self) -> bool:
        return bool(self.told.get("required"))

    @property
    def flag(self) -> bool:
        return self.told.get("action") == "store_true"

    def read(self, given: Any) -> Any:
        """What the function gets; raises `InputError` in one line when it is no such JSON."""
        if not self.json or given is None:
            return given
        text = _text(given)
        if self.json != "dict":
            made_by = load(self.json)
            return getattr(made_by, "from_json", made_by)(text)
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"--{self.name}: not JSON ({error})") from None


@dataclass(frozen=True)
class File:
    """A file that stages write and read; `name` is its name in rules, and that of its option unless `called` otherwise.

    `place` is where it lies below results/{scale}/ ("" if only the command line knows), with {run}, {seed}, {task} or
    {algorithm}. `table` is its kind of table (store/tables.py) if the command line describes it in a JSON beside it. For whoever
    asks where a number comes from, `equation` says what is in it (with the section of the paper), `code` (module:function) where
    that is computed, the function that says the equation first.
    """

    name: str
    place: str = ""
    table: str = ""
    option: str = ""
    optional: bool = False
    several: bool = False
    equation: str = ""
    code: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "option", self.option or self.name)

    def called(self, option: str) -> "File":
        return dataclasses.replace(self, option=option)

    def holding(self, equation: str, *code: str) -> "File":
        return dataclasses.replace(self, equation=equation, code=code)

    def if_any(self) -> "File":
        return dataclasses.replace(self, optional=True)

    @property
    def dest(self) -> str:
        """The function's parameter."""
        return self.option.replace("-", "_")

    def as_option(self) -> Option:
        told = {"type": Path, "metavar": "FILE", "required": not self.optional} | ({"nargs": "+"} if self.several else {})
        return Option(self.option, told=told)


def load(name: str) -> Any:
    """What "module:name" stands for; the module is imported."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _text(value: str) -> str:
    """JSON given as such, or in a file."""
    if value.lstrip().startswith("{"):
        return value
    try:
        return Path(value).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{value}: neither JSON nor a readable file ({error.strerror})") from None


# --- options of a kind
def text(name: str, dest: str = "", meaning: str | None = None) -> Option:
    return Option(name, dest, told={"required": True, "help": meaning, "metavar": name.upper()})


def spec(name: str, read: str, dest: str = "") -> Option:
    return Option(name, dest, json=read, told={"required": True, "metavar": "JSON"})


def whole(name: str, default: int | None = None) -> Option:
    return Option(name, told={"type": int} | ({"required": True} if default is None else {"default": default}))


def seconds(name: str, default: float) -> Option:
    return Option(name, told={"type": float, "default": default, "metavar": "SECONDS"})


def choice(name: str, *choices: str) -> Option:
    """The first one is the default."""
    return Option(name, told={"choices": list(choices), "default": choices[0]})


#: where to compute; results are the same up to rounding
DEVICE = choice("device", "cpu", "auto", "cuda")
BACKEND = choice("backend", "auto", "torch", "native", "cuda")


def folder(name: str, dest: str = "", **told: Any) -> Option:
    return Option(name, dest, told={"type": Path, "metavar": "FOLDER"} | (told or {"required": True}))


def several(name: str, nargs: str, metavar: str, meaning: str | None = None) -> Option:
    """Words; where the option is not given there are none."""
    return Option(name, told={"nargs": nargs, "default": [], "metavar": metavar, "help": meaning})


def flag(name: str, meaning: str, dest: str = "", exclusive: bool = False) -> Option:
    return Option(name, dest, exclusive=exclusive, told={"action": "store_true", "help": meaning})
