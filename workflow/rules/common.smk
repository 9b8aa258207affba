# What the rules share: the checked configuration, the plan of each scale, code fingerprints, small path helpers.

import json
import os
from os import environ
import shutil
import sys
from functools import cache
from itertools import groupby
from shlex import quote
from pathlib import Path

# Jobs use this source tree and this interpreter's environment, whether or not it was activated or the package installed.
sys.path.insert(0, f"{workflow.basedir}/src")
environ["PYTHONPATH"] = os.pathsep.join(filter(None, [f"{workflow.basedir}/src", environ.get("PYTHONPATH")]))
environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", "")])

from mesaopt.agreement.claims_file import read_claims
from mesaopt.agreement.published import read_entries
from mesaopt.process.dates import date_now
from mesaopt.errors import InputError
from mesaopt.spec.plan import resolve
from mesaopt.figures.registry import FIGURES
from mesaopt.figures import registry
from mesaopt.figures.looks import to_json as looks_to_json
from mesaopt.process.garbage import search_rarely
from mesaopt.process.orphans import queued_jobs
from mesaopt.store.fingerprint import code_fingerprint
from mesaopt.workflow_settings import read_settings
from mesaopt.spec.run import read_spec

search_rarely()

COMPUTED_SCALES = ["paper", "laptop", "smoke"]
FORMATS = ["pdf", "png", "svg"]
ENVIRONMENT = f"{workflow.basedir}/environment.yml"
FIRST, SECOND = 2, 1  # priorities: trainings and what all analyses need; the longer analyses


def stop(error):
    raise SystemExit(f"mesaopt: error: {error}")


try:
    SETTINGS = read_settings(Path(workflow.basedir), config)
except InputError as error:
    stop(error)

config = SETTINGS.config
SCALE = config["scale"]


@cache
def plan(scale):
    try:
        return resolve(SETTINGS.experiments, SETTINGS.scales, config, scale)
    except InputError as error:
        stop(error)


_KNOWN = plan(SCALE if SCALE in COMPUTED_SCALES else "paper")  # the names are those of every scale

if workflow.is_main_process:
    date_now(Path("results", SCALE))

fingerprint = cache(code_fingerprint)


def run_code(module):
    """The code that a job of a run depends on: `module`, and what the words of the run's spec stand for."""
    return lambda wildcards: fingerprint(module, plan(wildcards.scale).run(wildcards.run).modules())


def algorithm_code(module):
    """The same for a hand-written algorithm."""
    return lambda wildcards: fingerprint(module, plan(wildcards.scale).algorithm(wildcards.algorithm).modules())


def recorded_figures():
    return [name for name in FIGURES if Path(f"results/recorded/tables/{name}.parquet").exists()]


def drawable_figures():
    """What `all` asks for: every figure; at the `recorded` scale those whose tables ship with the project."""
    return recorded_figures() if SCALE == "recorded" else list(FIGURES)


def task_of(name):
    """The task of a run or hand-written algorithm: names are task/name."""
    return Path(name).parts[0]


def plain(name):
    """A name without slashes, for rules and captions."""
    return "-".join(Path(name).parts)


def sequences_of(wildcards, name):
    """The sequences of the task that `name` (task/...) belongs to, for the seed of `wildcards`."""
    return f"results/{wildcards.scale}/data/{task_of(name)}/seed-{wildcards.seed}.parquet"


# --- trainings
RUN_FOLDER = "results/{scale}/runs/{run}/seed-{seed}"


# What a profile asks per rule (`set-resources`); a GPU for trainings, on a cluster.
ASKED = workflow.resource_settings.overwrite_resources


def pack_size():
    if config["pack"] != "auto":
        return config["pack"]
    gpu_jobs = config["device"] != "cpu" and ("gpu" in ASKED.get("train", {}) or shutil.which("nvidia-smi"))
    return len(plan(SCALE).seeds) if gpu_jobs else 1


def is_trained(run, seed):
    """Whether the seed's results belong to the present spec: it then joins no pack."""
    folder = Path(RUN_FOLDER.format(scale=SCALE, run=run, seed=seed))
    try:
        return read_spec(folder / "spec.json") == (plan(SCALE).run(run), seed)
    except InputError:
        return False


def pack_name(run, pack):
    return f"train_{plain(run)}_{pack[0]}_to_{pack[-1]}"


def packs():
    """(run, seeds) of every job that takes several seeds: neighbours among the seeds, so that the first and the last name all.

    A job reads the workflow again, when other seeds may have finished: its packs are those that its command names.
    """
    if SCALE not in COMPUTED_SCALES:
        return
    seeds = plan(SCALE).seeds
    if not workflow.is_main_process:
        asked = {argument.partition(":")[0] for argument in sys.argv}
        every = [(run, seeds[i:j]) for run in plan(SCALE).runs for j in range(len(seeds) + 1) for i in range(j - 1)]
        yield from ((run, pack) for run, pack in every if pack_name(run, pack) in asked)
        return
    size = pack_size()
    for run in plan(SCALE).runs if size > 1 else []:
        for trained, neighbours in groupby(seeds, lambda seed: is_trained(run, seed)):
            pending = [] if trained else list(neighbours)
            for start in range(0, len(pending), size):
                if len(pack := pending[start : start + size]) > 1:
                    yield run, pack


PACKS = list(packs())
for run, pack in PACKS if "train" in ASKED else []:
    ASKED[pack_name(run, pack)] = ASKED["train"]  # takes effect because no rule has been read yet


# --- analyses
def extracted_run(wildcards):
    """The run whose compressed weights are followed along the training of `wildcards.run`."""
    first = plan(wildcards.scale).interpolations.get(wildcards.run)
    if first is None:
        stop(f"{wildcards.run} has no entry under `interpolations` in config/experiments.yaml")
    return f"results/{wildcards.scale}/runs/{first}/seed-{wildcards.seed}/weights.safetensors"


def preconditioner(wildcards):
    return f"{task_of(wildcards.run)}/proposition2"


def analysis_groups(single):
    """(stages, runs) of every rule: the stages that figures want of the same runs, and each single stage for all other runs."""
    shared = {stages: runs for stages, runs in registry.analyses().items() if len(stages) > 1}
    yield from shared.items()
    for stage in single:
        taken = {run for stages, runs in shared.items() if stage in stages for run in runs}
        yield (stage,), [run for run in _KNOWN.runs if run not in taken]


# --- figures
def figure_seeds(wildcards):
    return plan(wildcards.scale).seeds


def figure_looks(wildcards):
    """Labels and colours of the runs and algorithms behind a figure."""
    behind = [*registry.runs(wildcards.figure), *registry.algorithms(wildcards.figure)]
    return looks_to_json(plan(wildcards.scale).looks, behind)


def figure_table(figure, suffix):
    def path(wildcards):
        table = f"results/{wildcards.any_scale}/tables/{figure}.{suffix}"
        if wildcards.any_scale == "recorded" and not Path(table).exists():
            stop(f"{figure} is not recorded yet; recorded are: {', '.join(recorded_figures()) or 'none'}")
        return table

    return path


# where published curves are, and every drawing there is
PUBLISHED = config["published_tables"] if config["published_tables"] and Path(config["published_tables"]).is_dir() else None
DRAWINGS = [*FIGURES, "agreement", *(f"agreement/{name}" for name in FIGURES if PUBLISHED)]


_CLOSED = rf"(results/({'|'.join([*COMPUTED_SCALES, 'recorded'])})/)?figures/({'|'.join(DRAWINGS)})\.({'|'.join(FORMATS)})$"
_SPEED = rf"figures/speed\.({'|'.join(FORMATS)})$"
UNKNOWN_FIGURE = rf"(?!{_CLOSED}|{_SPEED})(results/[^/]+/)?figures/.+"


def no_such_figure(wildcards):
    if PUBLISHED is None and "figures/agreement/" in wildcards.path:
        stop(f"{wildcards.path} needs published curves: set published_tables to a folder of them (config/README.md)")
    known = f"figures are {', '.join(DRAWINGS)}, formats {', '.join(FORMATS)}, scales {', '.join([*COMPUTED_SCALES, 'recorded'])}"
    stop(f"no figure {wildcards.path!r}: {known}")


onstart:
    if workflow.non_local_exec and shutil.which("squeue"):
        if jobs := [job.number for job in queued_jobs(Path())]:
            stop(
                f"jobs of an earlier Snakemake in this folder are still in SLURM's queue: {', '.join(jobs)};"
                " first wait for them or cancel them: python -m mesaopt orphans --wait (or --cancel)"
            )


wildcard_constraints:
    scale="|".join(COMPUTED_SCALES),
    task="|".join(_KNOWN.tasks),
    run="|".join(_KNOWN.runs),
    algorithm="|".join(_KNOWN.theory),
    seed=r"\d+",
    any_scale="|".join([*COMPUTED_SCALES, "recorded"]),
    figure="|".join(FIGURES),
    drawing="|".join(DRAWINGS),
    format="|".join(FORMATS),
