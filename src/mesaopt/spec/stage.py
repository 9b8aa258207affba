"""What an entry in the list of stages says: its arguments, the function that is called with them, and how its jobs run."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any, Literal

from mesaopt.errors import InputError
from mesaopt.spec.arguments import File, Option, load

#: what a stage is about; of a `run` (trained already) its rule in the workflow is made from the entry, of a
#: `language` run on text by hand
Of = Literal["run", "training", "language", "task", "algorithm", "figure", "tables", "folder"]


@dataclass(frozen=True)
class Stage:
    """A stage: `function` of `module` is called with what its options say, by name.

    A `quick` stage shares a process with other quick ones of the same run, and a SLURM job with those of other runs; the rest
    have jobs of their own. The `early` ones, and all that are not quick, start before the others, so that cores are busy to the
    end. `minutes` is what its job asks of a cluster, if not the default.

    `settings` is a class ("module:Class", with `from_json` and `to_dict`) that --settings is read as. Values of the options
    `told` stand in the JSON beside its tables, settings always do. `beside` are files that it writes without an option. Jobs
    depend on the code of module `code`, by default the stage's own, and of modules that it takes by a word of its own (`words`).
    """

    name: str
    text: str
    of: Of
    reads: tuple[File, ...] = ()
    arguments: tuple[Option, ...] = ()
    writes: tuple[File, ...] = ()
    beside: tuple[File, ...] = ()
    module: str = ""
    function: str = "run"
    code: str = ""
    words: tuple[str, ...] = ()
    settings: str = ""
    told: tuple[str, ...] = ()
    quick: bool = False
    early: bool = False
    minutes: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "module", self.module or f"mesaopt.stages.{self.name.replace('-', '_')}")
        object.__setattr__(self, "code", self.code or self.module)

    @property
    def options(self) -> tuple[Option, ...]:
        """All arguments in the order of the command line: from what, how, to where."""
        settings = [Option("settings", json=self.settings, told={"default": "{}", "metavar": "JSON"})] if self.settings else []
        reads, writes = ([file.as_option() for file in files] for files in (self.reads, self.writes))
        return (*reads, *self.arguments, *settings, *writes)

    def call(self, values: Mapping[str, Any]) -> None:
        """Import the module and call the function; raises what it raises."""
        function: Callable[..., object] = load(f"{self.module}:{self.function}")
        function(**values)

    def files_read(self, values: Mapping[str, Any]) -> list[Path]:
        """Those that the arguments name."""
        return [path for file in self.reads if (path := values[file.dest]) is not None]

    def tables_written(self, values: Mapping[str, Any]) -> list[Path]:
        """Those that the arguments name and that a JSON beside them describes."""
        return [path for file in self.writes if file.table and (path := values[file.dest]) is not None]

    def facts(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What the JSON beside its tables says of it."""
        told = {option.name: values[option.dest] for option in self.options if option.name in (*self.told, "settings")}
        return {"stage": self.name} | {
            name: value.to_dict() if hasattr(value, "to_dict") else value for name, value in told.items()
        }

    def command(self, given: Mapping[str, object]) -> str:
        """The words after `python -m mesaopt`, with values by option, quoted; a flag's value says whether it stands there.

        Options that are not given keep their default. Raises `InputError` for one that is required.
        """
        return " ".join([self.name, *self._words(given)])

    def _words(self, given: Mapping[str, object]) -> Iterator[str]:
        for option in self.options:
            value = given.get(option.name)
            if value is None and option.required:
                raise InputError(f"{self.name}: nothing is known for --{option.name}")
            if option.flag:
                yield from [f"--{option.name}"] if value else []
            elif value is not None:
                values = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
                yield from [f"--{option.name}", *(quote(str(one)) for one in values)]
