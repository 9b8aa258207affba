# Sequences for evaluation and probing, with the systems that produced them. Training draws its own, online.


rule sequences:
    output:
        sequences=place(files.SEQUENCES),
        systems="results/{scale}/data/{task}/seed-{seed}-systems.parquet",
    log:
        "results/{scale}/logs/data/{task}/seed-{seed}.log",
    benchmark:
        "results/{scale}/benchmarks/data/{task}/seed-{seed}.tsv"
    wildcard_constraints:
        scale=ANALYSED,
    priority: FIRST
    conda:
        ENVIRONMENT
    params:
        task=lambda wildcards: plan(wildcards.scale).tasks[wildcards.task].to_json(),
        counts=lambda wildcards: " ".join(
            f"{split}={n}" for split, n in plan(wildcards.scale).sequences_for(wildcards.task).items()
        ),
        code=lambda wildcards: stage_code("data", plan(wildcards.scale).tasks[wildcards.task]),
    shell:
        "python -P -m mesaopt data --task {params.task:q} --seed {wildcards.seed} --counts {params.counts}"
        " --sequences {output.sequences} --systems {output.systems} > {log} 2>&1"
