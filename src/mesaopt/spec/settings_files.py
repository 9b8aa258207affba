"""The settings files, read and checked against their schemas: who reads them takes the same spellings, gives the same errors."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesaopt.spec.settings import schema, with_defaults
from mesaopt.spec.yaml_files import check, read_yaml, typed


@dataclass(frozen=True)
class Settings:
    """`config` has every key: what config.yaml and `--config` say, else its default. The others are the files of that name."""

    config: dict[str, Any]
    experiments: dict[str, Any]
    scales: dict[str, Any]


def read_files(root: Path, given: Mapping[str, Any] | None = None) -> Settings:
    """The settings below `root`, with `given`, which may be empty, in place of config.yaml.

    Raises `InputError` in one line for a file that is missing, not YAML or says a key twice, for keys and values that the schemas
    refuse, and for numbers that are not finite.
    """
    path = root / "config/config.yaml"
    shipped = read_yaml(path) if given is None or path.exists() else {}  # Snakemake would take the last of two equal keys
    config = typed(with_defaults(shipped if given is None else given))
    check(config, schema(), "config")
    experiments, scales = (_read(root, name) for name in ("experiments", "scales"))
    return Settings(config, experiments, scales)


def _read(root: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = typed(read_yaml(root / f"config/{name}.yaml"))
    check(content, read_yaml(root / f"workflow/schemas/{name}.schema.yaml"), f"{name}.yaml")
    return content
