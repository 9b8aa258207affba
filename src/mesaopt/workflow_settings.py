"""The settings files and what `--config` says on top, read and checked as a whole before anything runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesaopt.errors import InputError, unknown
from mesaopt.figures.options import Style
from mesaopt.figures.registry import FIGURES
from mesaopt.spec.settings import schema, with_defaults
from mesaopt.spec.yaml_files import check, read_yaml, typed


@dataclass(frozen=True)
class Settings:
    """`config` has every key: what config.yaml and `--config` say, else its default. The others are the files of that name."""

    config: dict[str, Any]
    experiments: dict[str, Any]
    scales: dict[str, Any]


def read_settings(root: Path, given: Mapping[str, Any]) -> Settings:
    """The settings below `root`, with `given` in place of config.yaml (Snakemake has read that and merged `--config` into it).

    `given` may be empty. Raises `InputError` in one line for a file that is missing, not YAML or says a key twice, for keys and
    values that the schemas refuse, for numbers that are not finite, unknown options of style, unknown figures, and settings that
    contradict each other.
    """
    if (root / "config/config.yaml").exists():
        read_yaml(root / "config/config.yaml")  # Snakemake would take the last of two equal keys
    config = typed(with_defaults(given))
    check(config, schema(), "config")
    experiments, scales = (_read(root, name) for name in ("experiments", "scales"))
    Style.from_dict(config["style"])
    for name in config["agreement_without"]:
        if name not in FIGURES:
            raise InputError(f"config: agreement_without: {unknown(name, 'figure', list(FIGURES))}")
    if config["device"] == "cuda" and config["backend"] == "native":
        raise InputError("config: backend native computes on a CPU, device is cuda: choose backend auto or torch, or device cpu")
    if config["device"] == "cpu" and config["backend"] == "cuda":
        raise InputError(
            "config: backend cuda computes on a GPU, device is cpu: choose backend auto, torch or native, or device cuda"
        )
    return Settings(config, experiments, scales)


def _read(root: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = typed(read_yaml(root / f"config/{name}.yaml"))
    check(content, read_yaml(root / f"workflow/schemas/{name}.schema.yaml"), f"{name}.yaml")
    return content
