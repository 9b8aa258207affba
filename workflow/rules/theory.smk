# The hand-written algorithms: learned on the task itself with the scale's first seed (whatever `seeds` says), then scored like
# any model, on every seed's data.


rule learn:
    input:
        scalars=scalars_of,
    output:
        parameters=place(files.PARAMETERS),
    log:
        "results/{scale}/logs/theory/{algorithm}/learn.log",
    benchmark:
        "results/{scale}/benchmarks/theory/{algorithm}/learn.tsv"
    wildcard_constraints:
        scale=ANALYSED,
    priority: FIRST
    conda:
        ENVIRONMENT
    resources:
        device=config["analysis_device"],
        backend=config["backend"],
        checkpoint_every=config["checkpoint_every"],
    params:
        spec=lambda wildcards: plan(wildcards.scale).algorithm(wildcards.algorithm).to_json(),
        seed=lambda wildcards: plan(wildcards.scale).learning_seed,
        checkpoints=lambda wildcards: f"results/{wildcards.scale}/checkpoints",
        taken=lambda wildcards, input: f" --scalars {input.scalars}" if input.scalars else "",
        code=lambda wildcards: stage_code("learn", plan(wildcards.scale).algorithm(wildcards.algorithm)),
    shell:
        "python -P -m mesaopt learn --spec {params.spec:q} --seed {params.seed} --out {output.parameters}{params.taken}"
        " --checkpoints {params.checkpoints} --device {resources.device} --backend {resources.backend} --checkpoint-every {resources.checkpoint_every}"
        " > {log} 2>&1"


rule evaluate_algorithm:
    input:
        parameters=lambda wildcards: parameters_of(wildcards.scale, wildcards.algorithm),
        sequences=lambda wildcards: sequences_of(wildcards, wildcards.algorithm),
    output:
        loss="results/{scale}/theory/{algorithm}/loss/seed-{seed}.parquet",
    log:
        "results/{scale}/logs/theory/{algorithm}/loss-{seed}.log",
    benchmark:
        "results/{scale}/benchmarks/theory/{algorithm}/loss-{seed}.tsv"
    wildcard_constraints:
        scale=ANALYSED,
    conda:
        ENVIRONMENT
    resources:
        device=config["analysis_device"],
    params:
        spec=lambda wildcards: plan(wildcards.scale).algorithm(wildcards.algorithm).to_json(),
        name=lambda wildcards: plan(wildcards.scale).looks[wildcards.algorithm].label,
        settings=lambda wildcards: analysis_settings("evaluate", wildcards.scale, wildcards.algorithm).to_json(),
        code=lambda wildcards: stage_code("evaluate-theory", plan(wildcards.scale).algorithm(wildcards.algorithm)),
    shell:
        "python -P -m mesaopt evaluate-theory --spec {params.spec:q} --parameters {input.parameters} --sequences {input.sequences}"
        " --seed {wildcards.seed}"
        " --name {params.name:q} --settings {params.settings:q} --device {resources.device} --out {output.loss} > {log} 2>&1"
