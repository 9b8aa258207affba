# What the rules share: the checked configuration, the plan of each scale, code fingerprints, what names stand for.

import json
import re
import shutil
from shlex import quote

from mesaopt.errors import InputError
from mesaopt.figures import registry
from mesaopt.figures.registry import FIGURES
from mesaopt.process.dates import date_now
from mesaopt.process.garbage import search_rarely
from mesaopt.spec import files
from mesaopt.spec.language_plan import language_looks
from mesaopt.spec.plan import resolve
from mesaopt.spec.settings import COMPUTED_SCALES, FORMATS
from mesaopt.spec.stages import analyses, stage
from mesaopt.store.diverged import FILE as DIVERGED
from mesaopt.store.diverged import has_diverged
from mesaopt.store.fingerprint import code_fingerprint
from mesaopt.store.former import move_records
from mesaopt.workflow_settings import read_settings

search_rarely()

FIRST, SECOND = 2, 1  # priorities: trainings and what all analyses need; the longer analyses


try:
    SETTINGS = read_settings(ROOT, config)
except InputError as error:
    stop(error)

config = SETTINGS.config
SCALE = config["scale"]


@cache
def plan(scale):
    """What a scale computes; `recorded` has what ships with the project, so its settings are those of `paper`."""
    try:
        return resolve(SETTINGS.experiments, SETTINGS.scales, config, "paper" if scale == "recorded" else scale)
    except InputError as error:
        stop(error)


SWEPT = SCALE if SCALE in COMPUTED_SCALES else "paper"
_KNOWN = plan(SWEPT)  # the names are those of every scale

if workflow.is_main_process:
    date_now(Path("results", SCALE))
    move_records(Path(results_of(SCALE)))

fingerprint = cache(code_fingerprint)


def stage_code(name, *specs):
    """The code that jobs of a stage depend on: its own, and what the words of their run, task or algorithm (`specs`) stand for."""
    modules = (module for spec in specs for module in spec.modules())
    return fingerprint(stage(name).code, (*stage(name).words, *modules))


def diverged(run):
    """Whether this training, as it would be made now, has diverged with any seed: then a sweep has no such point."""
    folders = [Path(f"results/{SWEPT}/checkpoints/{run}/seed-{seed}") for seed in plan(SWEPT).seeds]
    folders = [folder for folder in folders if (folder / DIVERGED).exists()]
    spec = plan(SWEPT).run(run)
    return any(has_diverged(folder, {"spec": spec.to_json(), "code": stage_code("train", spec)}) for folder in folders)


def place(file):
    """Where a file of results lies at each scale; {run}, {seed} and so on are left for Snakemake."""
    return f"results/{{scale}}/{file.place}"


def task_of(name):
    """The task of a run or hand-written algorithm: names are task/name."""
    return Path(name).parts[0]


plain = registry.plain


# what was trained here or, at the `recorded` scale, ships with the project is analysed
ANALYSED = "|".join([*COMPUTED_SCALES, "recorded"])

# where published curves are, and every drawing there is
PUBLISHED = config["published_tables"] if config["published_tables"] and Path(config["published_tables"]).is_dir() else None
DRAWINGS = [*FIGURES, *(["sweep"] if _KNOWN.sweep else []), "agreement", *(f"agreement/{name}" for name in FIGURES if PUBLISHED)]


wildcard_constraints:
    scale="|".join(COMPUTED_SCALES),
    task="|".join(_KNOWN.tasks),
    run="|".join(_KNOWN.runs),
    algorithm="|".join(_KNOWN.theory),
    text="|".join(_KNOWN.language.texts),
    language="|".join(language_looks(SETTINGS.experiments)),
    seed=r"\d+",
    any_scale="|".join([*COMPUTED_SCALES, "recorded"]),
    figure="|".join(FIGURES),
    drawing="|".join(DRAWINGS),
    format="|".join(FORMATS),
