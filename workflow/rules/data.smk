# Sequences for evaluation and probing, with the systems that produced them. Training draws its own, online.


rule sequences:
    output:
        sequences="results/{scale}/data/{task}/seed-{seed}.parquet",
        systems="results/{scale}/data/{task}/seed-{seed}-systems.parquet",
    log:
        "results/{scale}/logs/data/{task}/seed-{seed}.log",
    benchmark:
        "results/{scale}/benchmarks/data/{task}/seed-{seed}.tsv"
    priority: FIRST
    conda:
        ENVIRONMENT
    params:
        task=lambda wildcards: plan(wildcards.scale).tasks[wildcards.task].to_json(),
        counts=lambda wildcards: " ".join(f"{split}={n}" for split, n in plan(wildcards.scale).sequences.items()),
        code=lambda wildcards: fingerprint("mesaopt.data.files", plan(wildcards.scale).tasks[wildcards.task].modules()),
    shell:
        "python -P -m mesaopt data --task {params.task:q} --seed {wildcards.seed} --counts {params.counts}"
        " --sequences {output.sequences} --systems {output.systems} > {log} 2>&1"
