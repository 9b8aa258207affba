# Trainings. A job takes a pack of seeds of one run: one on a CPU, all of them where jobs get a GPU (stacked there). Outputs
# are per seed and no parameter names the pack, so another pack size reruns nothing. Long jobs start first (`priority`), and what
# those after them need; the many short analyses then fill the cores to the end.

TRAINED = {file.name: place(file) for file in (*stage("train").writes, *stage("train").beside)}
TRAIN = (
    "python -P -m mesaopt train --spec {params.spec:q} --weights {output.weights} --threads {threads}"
    " --checkpoints {params.checkpoints} --device {resources.device} --backend {resources.backend}"
    " --checkpoint-every {resources.checkpoint_every} > {log} 2>&1"
)


rule train:
    output:
        **TRAINED,
    log:
        "results/{scale}/logs/train/{run}/seed-{seed}.log",
    benchmark:
        "results/{scale}/benchmarks/train/{run}/seed-{seed}.tsv"
    priority: FIRST
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        device=config["device"],
        backend=config["backend"],
        checkpoint_every=config["checkpoint_every"],
    params:
        spec=lambda wildcards: plan(wildcards.scale).run(wildcards.run).to_json(),
        checkpoints=lambda wildcards: f"results/{wildcards.scale}/checkpoints",
        code=lambda wildcards: stage_code("train", plan(wildcards.scale).run(wildcards.run)),
    shell:
        TRAIN


BEGINNINGS = plan(SWEPT).beginnings


rule begin:
    """A run that is the beginning of a longer one at this scale is taken from that one."""
    input:
        lambda wildcards: [
            TRAINED[name].format(scale=SWEPT, run=BEGINNINGS[wildcards.run], seed=wildcards.seed) for name in TRAINED
        ],
    output:
        **{name: path.replace("{scale}", SWEPT) for name, path in TRAINED.items()},
    log:
        f"results/{SWEPT}/logs/begin/{{run}}/seed-{{seed}}.log",
    wildcard_constraints:
        run="|".join(BEGINNINGS) or "none",
    priority: FIRST
    conda:
        ENVIRONMENT
    params:
        spec=lambda wildcards: plan(SWEPT).run(wildcards.run).to_json(),
        longer=lambda wildcards, input: str(Path(input[0]).parent),
        code=lambda wildcards: stage_code("begin", plan(SWEPT).run(wildcards.run)),
    shell:
        "python -P -m mesaopt begin --spec {params.spec:q} --longer {params.longer:q} --weights {output.weights} > {log} 2>&1"


workflow.ruleorder("begin", "train")

for run, pack in PACKS:

    rule:
        name:
            pack_name(run, pack)
        output:
            **{name: [path.format(scale=SCALE, run=run, seed=seed) for seed in pack] for name, path in TRAINED.items()},
        log:
            f"results/{SCALE}/logs/train/{run}/seeds-{pack[0]}-to-{pack[-1]}.log",
        benchmark:
            f"results/{SCALE}/benchmarks/train/{run}/seeds-{pack[0]}-to-{pack[-1]}.tsv"
        priority: FIRST
        conda:
            ENVIRONMENT
        threads: len(pack)
        resources:
            device=config["device"],
            backend=config["backend"],
            checkpoint_every=config["checkpoint_every"],
        params:
            spec=plan(SCALE).run(run).to_json(),
            checkpoints=f"results/{SCALE}/checkpoints",
            code=stage_code("train", plan(SCALE).run(run)),
        shell:
            TRAIN

    workflow.ruleorder(pack_name(run, pack), "train")
