# What the rules share: the checked configuration, the plan of each scale, code fingerprints, small path helpers.

import json
import re
import shutil
from itertools import groupby
from shlex import quote

from mesaopt.agreement.claims_file import read_claims
from mesaopt.agreement.published import read_entries
from mesaopt.agreement.teachers import FIRST as FIRST_TEACHER, OTHERS as OTHER_TEACHERS
from mesaopt.data.packages import PACKAGES
from mesaopt.backends.native.build import BuildError, require_compiler
from mesaopt.process.dates import date_now
from mesaopt.errors import InputError
from mesaopt.spec.language_plan import language_looks
from mesaopt.spec.plan import resolve
from mesaopt.figures.registry import FIGURES
from mesaopt.figures import registry
from mesaopt.figures.looks import to_json as looks_to_json
from mesaopt.process.garbage import search_rarely
from mesaopt.process.home import require_cache
from mesaopt.process.orphans import queued_jobs
from mesaopt.spec import files
from mesaopt.spec.look import short_name
from mesaopt.spec.stages import analyses, stage
from mesaopt.store.fingerprint import code_fingerprint
from mesaopt.store.former import move_records
from mesaopt.spec.settings import COMPUTED_SCALES, FORMATS
from mesaopt.workflow_settings import read_settings
from mesaopt.spec.run import read_spec
from mesaopt.spec.told import made_otherwise, trained_otherwise

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


def place(file):
    """Where a file of results lies at each scale; {run}, {seed} and so on are left for Snakemake."""
    return f"results/{{scale}}/{file.place}"


def recorded_figures():
    return [name for name in FIGURES if Path(f"{tables_of('recorded')}/{name}.parquet").exists()]


def drawable_figures():
    """What `all` asks for: every figure; at the `recorded` scale those whose tables ship with the project."""
    return recorded_figures() if SCALE == "recorded" else figures_with_text()


@cache
def figures_with_text():
    """All figures but those of language models where the scale's text is one that nobody gave."""
    language, looks = plan(SCALE).language, plan(SCALE).looks
    without = {run for run in language.runs if language.missing_text(run)}
    return [name for name in FIGURES if not without or not without.intersection(registry.runs(name, looks))]


def task_of(name):
    """The task of a run or hand-written algorithm: names are task/name."""
    return Path(name).parts[0]


plain = registry.plain


def sequences_of(wildcards, name):
    """The sequences of the task that `name` (task/...) belongs to, for the seed of `wildcards`."""
    return place(files.SEQUENCES).format(scale=wildcards.scale, task=task_of(name), seed=wildcards.seed)


# --- trainings
RUN_FOLDER = f"results/{{scale}}/{files.RUN}"


# What a profile asks per rule (`set-resources`); a GPU for trainings, on a cluster. A workflow that uses this one as a module
# may call its rules something else.
ASKED = workflow.resource_settings.overwrite_resources
known_as = workflow.modifier.modify_rulename


def pack_size():
    if config["pack"] != "auto":
        return config["pack"]
    asked = ASKED.get(known_as("train"), {})
    gpu_jobs = config["device"] != "cpu" and ("gpu" in asked or "gres" in asked or shutil.which("nvidia-smi"))
    return len(plan(SCALE).seeds) if gpu_jobs else 1


def is_trained(run, seed):
    """Whether the seed's results belong to the present spec and code: it then joins no pack."""
    folder, spec = Path(RUN_FOLDER.format(scale=SCALE, run=run, seed=seed)), plan(SCALE).run(run)
    return (folder / "spec.json").exists() and not trained_otherwise(folder, spec, seed, stage_code("train", spec))


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
        yield from ((run, pack) for run, pack in every if known_as(pack_name(run, pack)) in asked)
        return
    size = pack_size()
    trained = [run for run in plan(SCALE).runs if run not in plan(SCALE).beginnings]
    for run in trained if size > 1 else []:
        for done, neighbours in groupby(seeds, lambda seed: is_trained(run, seed)):
            pending = [] if done else list(neighbours)
            for start in range(0, len(pending), size):
                if len(pack := pending[start : start + size]) > 1:
                    yield run, pack


PACKS = list(packs())
for run, pack in PACKS if known_as("train") in ASKED else []:
    ASKED[known_as(pack_name(run, pack))] = ASKED[known_as("train")]  # takes effect because no rule has been read yet


# --- analyses, of what was trained here or, at the `recorded` scale, ships with the project
ANALYSED = "|".join([*COMPUTED_SCALES, "recorded"])


def of_training(file):
    """Where a file of a training is that analyses read."""
    return lambda wildcards: trained(file, wildcards.scale, wildcards.run, wildcards.seed)


def trained(file, scale, run, seed):
    if scale != "recorded":
        return place(file).format(scale=scale, run=run, seed=seed)
    path = Path(RECORDED, files.recorded_place(file).format(run=run, seed=seed))
    if not path.exists():
        have = (
            "their snapshots are not recorded" if file == files.SNAPSHOTS else "there is none of figures recorded without weights"
        )
        stop(f"{run} seed {seed}: no {path} ({have}, docs/recording.md); train it: --config scale=paper")
    try:
        said = read_spec(path.parent / "spec.json")
    except InputError as error:
        stop(error)
    if said != (plan(scale).run(run), int(seed)):
        stop(f"{run} seed {seed}: {path.parent / 'spec.json'} says other settings than those of scale paper now")
    return str(path)


def recorded_trainings():
    """(run, seed) of all weights that ship with the project."""
    found = [path.parent for path in sorted(Path(RECORDED, "weights").glob("*/*/seed-*/weights.safetensors"))]
    return [(f"{one.parts[-3]}/{one.parts[-2]}", one.name.removeprefix("seed-")) for one in found]


def every_analysis():
    """The tables that figures show of trained runs, as far as their trainings are there to be read."""
    here = recorded_trainings() if SCALE == "recorded" else [(run, seed) for run in _KNOWN.runs for seed in plan(SCALE).seeds]
    reads_snapshots = {one.name for one in analyses() if files.SNAPSHOTS in one.reads and SCALE == "recorded"}
    for names, runs in registry.analyses(_KNOWN.looks).items():
        written = [file for name in names if name not in reads_snapshots for file in stage(name).writes if not file.optional]
        yield from (place(file).format(scale=SCALE, run=run, seed=seed) for run, seed in here if run in runs for file in written)


def parameters_of(scale, algorithm):
    """Parameters of a hand-written algorithm: what is recorded at these settings, or else what is learned."""
    path = Path(RECORDED, files.recorded_place(files.PARAMETERS).format(algorithm=algorithm))
    if scale == "recorded" and path.exists():
        asked = {"theory": plan(scale).algorithm(algorithm), "seed": plan(scale).learning_seed, "out": path}
        if made_otherwise(stage("learn"), asked) is None:
            return str(path)
    return place(files.PARAMETERS).format(scale=scale, algorithm=algorithm)


def extracted_run(wildcards):
    """The run whose compressed weights are followed along the training of `wildcards.run`."""
    first = plan(wildcards.scale).interpolations.get(wildcards.run)
    if first is None:
        stop(f"{wildcards.run} has no entry under `interpolations` in config/experiments.yaml")
    return trained(files.WEIGHTS, wildcards.scale, first, wildcards.seed)


def first_training(wildcards):
    """The snapshots of the training whose heads are matched with those of `wildcards.run`."""
    first = plan(wildcards.scale).matchings.get(wildcards.run)
    if first is None:
        stop(f"{wildcards.run} has no entry under `matchings` in config/experiments.yaml")
    return trained(files.SNAPSHOTS, wildcards.scale, first, wildcards.seed)


def analysis_settings(name, scale, run):
    try:
        return plan(scale).analysis(name, run)
    except InputError as error:
        stop(error)


def label_of(scale, run):
    """What figures call a run; a run that the figures of the scale do without has its short name."""
    looks = plan(scale).looks
    return looks[run].label if run in looks else short_name(run)


def pairs_of(wildcards):
    """The task whose sequences are the pairs that prompts of a run are tuned on."""
    name, tasks = analysis_settings("tune-prompts", wildcards.scale, wildcards.run).pairs, plan(wildcards.scale).tasks
    if name not in tasks:
        stop(f"analyses: tune-prompts: pairs of {wildcards.run}: there is no task {name}; there are {', '.join(tasks)}")
    return tasks[name]


def preconditioner(wildcards, form):
    try:
        return plan(wildcards.scale).preconditioner(wildcards.run, form)
    except InputError as error:
        stop(error)


def preconditioner_parameters(form):
    return lambda wildcards: parameters_of(wildcards.scale, preconditioner(wildcards, form))


def written_of(entries, runs):
    """(runs, files) of the rules that stages need: what is optional cannot be had of models that read raw elements."""
    every = [file for one in entries for file in one.writes]
    raw = [run for run in runs if any(file.optional for file in every) and _KNOWN.run(run).model.tokens == "raw"]
    parts = ([run for run in runs if run not in raw], every), (raw, [file for file in every if not file.optional])
    yield from (part for part in parts if part[0])


def scalars_of(wildcards):
    """The parameters of another algorithm whose alpha and beta are taken, if any are."""
    other = plan(wildcards.scale).algorithm(wildcards.algorithm).scalars
    return parameters_of(wildcards.scale, other) if other else []


def analysis_groups():
    """(stages, runs) of every rule: the stages that figures want of the same runs, and each single stage for all other runs."""
    shared = {names: runs for names, runs in registry.analyses(_KNOWN.looks).items() if len(names) > 1}
    single = {(one.name,): {run for names, runs in shared.items() if one.name in names for run in runs} for one in analyses()}
    rest = {names: [run for run in _KNOWN.runs if run not in taken] for names, taken in single.items()}
    for names, runs in [*shared.items(), *rest.items()]:
        entries = [stage(name) for name in names]
        yield from ((entries, of, written) for of, written in written_of(entries, runs))


def asked_by(entries):
    """What a cluster is asked for beyond the default of its profile: minutes, more in every attempt."""
    minutes = [one.minutes for one in entries if one.minutes]
    return {"runtime": lambda wildcards, attempt: attempt * sum(minutes)} if minutes else {}


def shared_job(entries):
    """The group of quick analyses: they share cluster jobs where a profile says how many (known when jobs are made, not yet now)."""
    quick = all(one.quick for one in entries)
    return lambda wildcards: "analysis" if quick and "analysis" in workflow.group_settings.group_components else None


# --- language models
def language_run(wildcards):
    """The run on text of a job."""
    return plan(wildcards.scale).any_run(wildcards.language)


def text_of(wildcards):
    """The tokens that a run on text is trained on."""
    if missing := plan(wildcards.scale).language.missing_text(language_run(wildcards).name):
        stop(f"{missing} (config/README.md)")
    return place(files.TOKENS).format(scale=wildcards.scale, text=task_of(wildcards.language))


def text_packages(wildcards):
    """The packages that a text, or its vocabulary, is read from."""
    from mesaopt.data.shards import package_names  # numpy, which planning anything else need not wait for

    named = package_names(plan(wildcards.scale).language.texts[wildcards.text])
    return [f"results/packages/{PACKAGES[name].file}" for name in named]


def on_text(file):
    """A file in the folder of a run on text."""
    return place(file).replace("{run}", "{language}")


# --- figures
def figure_seeds(wildcards):
    return plan(wildcards.scale).seeds


def figure_looks(wildcards):
    """Labels and colours of the runs and algorithms behind a figure."""
    looks = plan(wildcards.scale).looks
    return looks_to_json(looks, [*registry.runs(wildcards.figure, looks), *registry.algorithms(wildcards.figure, looks)])


def figure_file(figure, file):
    """The table of a figure, or its record."""

    def path(wildcards):
        found = f"{results_of(wildcards.any_scale)}/{file.place.format(figure=figure)}"
        if wildcards.any_scale == "recorded" and not Path(found).exists():
            stop(f"{figure} is not recorded yet: no {found}; recorded are: {', '.join(recorded_figures()) or 'none'}")
        return found

    return path


def measured_speed(suffix):
    """The table of this machine, to be measured if need be; at the `recorded` scale the one that ships with the project."""

    def path(wildcards):
        if SCALE != "recorded":
            return f"results/benchmarks/speed.{suffix}"
        if not Path(f"{RECORDED}/speed.{suffix}").exists():
            stop(f"the speed is not recorded yet: there is no {ROOT / f'results/recorded/speed.{suffix}'}")
        return f"{RECORDED}/speed.{suffix}"

    return path


# where published curves are, and every drawing there is
PUBLISHED = config["published_tables"] if config["published_tables"] and Path(config["published_tables"]).is_dir() else None
DRAWINGS = [*FIGURES, *(["sweep"] if _KNOWN.sweep else []), "agreement", *(f"agreement/{name}" for name in FIGURES if PUBLISHED)]


_CLOSED = rf"(results/({'|'.join([*COMPUTED_SCALES, 'recorded'])})/)?figures/({'|'.join(DRAWINGS)})\.({'|'.join(FORMATS)})$"
_SPEED = rf"figures/speed\.({'|'.join(FORMATS)})$"
UNKNOWN_FIGURE = rf"(?!{_CLOSED}|{_SPEED})(results/[^/]+/)?figures/.+"


def no_such_figure(wildcards):
    if _KNOWN.sweep is None and Path(wildcards.path).stem == "sweep":
        stop(f"{wildcards.path} needs a sweep: say one under `sweep` in the configuration (config/README.md)")
    if PUBLISHED is None and "figures/agreement/" in wildcards.path:
        stop(f"{wildcards.path} needs published curves: set published_tables to a folder of them (config/README.md)")
    known = f"figures are {', '.join(DRAWINGS)}, formats {', '.join(FORMATS)}, scales {', '.join([*COMPUTED_SCALES, 'recorded'])}"
    stop(f"no figure {wildcards.path!r}: {known}")


def say_slow_trainings():
    """On the console, once: what jobs would say in their logs alone costs hours."""
    takes_compiled_code = (job.resources.get("backend") == "auto" for job in workflow.dag.needrun_jobs())
    if workflow.is_main_process and not workflow.non_local_exec and any(takes_compiled_code):
        try:
            require_compiler()
            require_cache()
        except (BuildError, InputError) as error:
            print(f"mesaopt: trainings take several times as long as with compiled code: {error}", file=sys.stderr, flush=True)


onstart:
    say_slow_trainings()
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
    text="|".join(_KNOWN.language.texts),
    language="|".join(language_looks(SETTINGS.experiments)),
    seed=r"\d+",
    any_scale="|".join([*COMPUTED_SCALES, "recorded"]),
    figure="|".join(FIGURES),
    drawing="|".join(DRAWINGS),
    format="|".join(FORMATS),
