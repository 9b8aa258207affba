"""The settings files and what `--config` says on top, read and checked as a whole before anything runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mesaopt.errors import InputError, unknown
from mesaopt.figures.options import Style
from mesaopt.figures.registry import FIGURES, figure
from mesaopt.spec.plan import looks
from mesaopt.spec.settings_files import Settings, read_files


def read_settings(root: Path, given: Mapping[str, Any]) -> Settings:
    """The settings below `root`, with `given` in place of config.yaml (Snakemake has read that and merged `--config` into it).

    `given` may be empty. Raises `InputError` in one line for what `read_files` refuses, unknown options of style, unknown
    figures and panels, and settings that contradict each other.
    """
    settings = read_files(root, given)
    config = settings.config
    Style.from_dict(config["style"])
    for name in config["agreement_without"]:
        if name not in FIGURES:
            raise InputError(f"config: agreement_without: {unknown(name, 'figure', list(FIGURES))}")
    if config["device"] == "cuda" and config["backend"] == "native":
        raise InputError("config: backend native computes on a CPU, device is cuda: choose backend auto or torch, or device cpu")
    if config["device"] == "cpu" and config["backend"] == "cuda":
        raise InputError("config: backend cuda computes on a GPU, device is cpu: choose backend auto or native, or device cuda")
    _require_panels(settings.experiments)
    return settings


def _require_panels(experiments: Mapping[str, Any]) -> None:
    """Raise `InputError` where an entry joins a panel that does not exist: of an unknown figure it would join none, silently."""
    found = looks(experiments)
    for name, look in found.items():
        for panel in look.panels:
            of = panel.rpartition("/")[0]
            if of not in FIGURES:
                raise InputError(f"experiments.yaml: {name}: panels: {panel}: {unknown(of, 'figure', list(FIGURES))}")
            figure(of, found)
