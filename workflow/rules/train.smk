# Trainings. A job takes a pack of seeds of one run: one on a CPU, all of them where jobs get a GPU (stacked there). Outputs
# are per seed and no parameter names the pack, so another pack size reruns nothing.

import json
import shutil

RUN_FOLDER = "results/{scale}/runs/{run}/seed-{seed}"
TRAINED = dict(
    weights="weights.safetensors",
    snapshots="snapshots.safetensors",
    history="history.parquet",
    spec="spec.json",
    provenance="provenance.json",
)
TRAIN = (
    "python -m mesaopt train --spec {params.spec:q} --weights {output.weights} --threads {threads}"
    " --checkpoints {params.checkpoints} --device {config[device]} --backend {config[backend]} > {log} 2>&1"
)


rule train:
    output:
        **{name: f"{RUN_FOLDER}/{file}" for name, file in TRAINED.items()},
    log:
        "results/{scale}/logs/train/{run}/seed-{seed}.log",
    benchmark:
        "results/{scale}/benchmarks/train/{run}/seed-{seed}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    params:
        spec=lambda wildcards: plan(wildcards.scale).run(wildcards.run).to_json(),
        checkpoints=lambda wildcards: f"results/{wildcards.scale}/checkpoints",
        code=fingerprint("mesaopt.train"),
    shell:
        TRAIN


def pack_size():
    if config["pack"] != "auto":
        return config["pack"]
    gpu_jobs = config["device"] != "cpu" and (workflow.non_local_exec or workflow.remote_exec or shutil.which("nvidia-smi"))
    return len(plan(SCALE).seeds) if gpu_jobs else 1


def is_trained(run, seed):
    """Whether the seed's results belong to the present spec: it then joins no pack."""
    folder = Path(RUN_FOLDER.format(scale=SCALE, run=run, seed=seed))
    try:
        recorded = json.loads((folder / "spec.json").read_text())
    except (OSError, ValueError):
        return False
    present = json.loads(plan(SCALE).run(run).to_json())
    return all(recorded.get(key) == value for key, value in present.items())


def packs():
    """(run, seeds) of every job that takes several seeds."""
    size = pack_size() if SCALE in COMPUTED_SCALES else 1
    for run in plan(SCALE).runs if size > 1 else []:
        pending = [seed for seed in plan(SCALE).seeds if not is_trained(run, seed)]
        for start in range(0, len(pending), size):
            if len(pack := pending[start : start + size]) > 1:
                yield run, pack


for run, pack in packs():
    pack_name = f"train_{run}_{pack[0]}_to_{pack[-1]}".replace("/", "_").replace("-", "_")

    rule:
        name:
            pack_name
        output:
            **{
                name: [f"{RUN_FOLDER}/{file}".format(scale=SCALE, run=run, seed=seed) for seed in pack]
                for name, file in TRAINED.items()
            },
        log:
            f"results/{SCALE}/logs/train/{run}/seeds-{pack[0]}-to-{pack[-1]}.log",
        benchmark:
            f"results/{SCALE}/benchmarks/train/{run}/seeds-{pack[0]}-to-{pack[-1]}.tsv"
        conda:
            ENVIRONMENT
        threads: len(pack)
        params:
            spec=plan(SCALE).run(run).to_json(),
            checkpoints=f"results/{SCALE}/checkpoints",
            code=fingerprint("mesaopt.train"),
        shell:
            TRAIN

    workflow.ruleorder(pack_name, "train")
