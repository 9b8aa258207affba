# Packs: which seeds of a run one training job takes. Before the rules, because what a profile asks for trainings is theirs, too.

from itertools import groupby

from mesaopt.spec.told import trained_otherwise

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
