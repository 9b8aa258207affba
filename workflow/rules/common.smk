# What the rules share: the checked configuration, the plan of each scale, code fingerprints, small path helpers.

import json
import os
import sys
from functools import cache
from pathlib import Path

# Jobs use this source tree and this interpreter's environment, whether or not it was activated or the package installed.
sys.path.insert(0, f"{workflow.basedir}/src")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [f"{workflow.basedir}/src", os.environ.get("PYTHONPATH")]))
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

from mesaopt import config as configuration
from mesaopt.errors import InputError
from mesaopt.experiments import resolve
from mesaopt.figures.registry import FIGURES
from mesaopt.figures import registry
from mesaopt.provenance import code_fingerprint

COMPUTED_SCALES = ["paper", "laptop", "smoke"]
FORMATS = ["pdf", "png", "svg"]
ENVIRONMENT = f"{workflow.basedir}/environment.yml"


def stop(error):
    raise SystemExit(f"mesaopt: error: {error}")


try:
    EXPERIMENTS, SCALES = (
        configuration.read_yaml(Path(workflow.basedir, "config", f"{name}.yaml")) for name in ("experiments", "scales")
    )
    configuration.check(
        config,
        configuration.read_yaml(Path(workflow.basedir, "workflow/schemas/config.schema.yaml")),
        "config",
    )
    registry.check_style(config["style"])
except InputError as error:
    stop(error)

SCALE = config["scale"]


@cache
def plan(scale):
    try:
        return resolve(EXPERIMENTS, SCALES, config, scale)
    except InputError as error:
        stop(error)


if SCALE in COMPUTED_SCALES:
    plan(SCALE)  # a wrong setting is reported before anything runs


fingerprint = cache(code_fingerprint)


def recorded_figures():
    return [name for name in FIGURES if Path(f"results/recorded/tables/{name}.parquet").exists()]


def drawable_figures():
    """What `all` asks for: every figure; at the `recorded` scale those whose tables ship with the project."""
    return recorded_figures() if SCALE == "recorded" else list(FIGURES)


def sequences_of(wildcards, name):
    """The sequences of the task that `name` (task/...) belongs to, for the seed of `wildcards`."""
    return f"results/{wildcards.scale}/data/{name.split('/')[0]}/seed-{wildcards.seed}.parquet"


wildcard_constraints:
    scale="|".join(COMPUTED_SCALES),
    task="[a-z0-9_]+",
    run="[a-z0-9_]+/[a-z0-9-]+",
    algorithm="[a-z0-9_]+/[a-z0-9-]+",
    seed=r"\d+",
    figure="|".join(FIGURES),
    format="|".join(FORMATS),
