# What is read of trainings and hand-written algorithms, and which analyses one job makes of which runs.

from mesaopt.spec.look import short_name
from mesaopt.spec.run import read_spec
from mesaopt.spec.told import made_otherwise


def sequences_of(wildcards, name):
    """The sequences of the task that `name` (task/...) belongs to, for the seed of `wildcards`."""
    return place(files.SEQUENCES).format(scale=wildcards.scale, task=task_of(name), seed=wildcards.seed)


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


def scalars_of(wildcards):
    """The parameters of another algorithm whose alpha and beta are taken, if any are."""
    other = plan(wildcards.scale).algorithm(wildcards.algorithm).scalars
    return parameters_of(wildcards.scale, other) if other else []


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
