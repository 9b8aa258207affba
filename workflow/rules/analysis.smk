# What is read out of trained models, per run and seed.


rule evaluate:
    input:
        weights=rules.train.output.weights,
        spec=rules.train.output.spec,
        sequences=lambda wildcards: sequences_of(wildcards, wildcards.run),
    output:
        loss="results/{scale}/runs/{run}/seed-{seed}/loss.parquet",
    log:
        "results/{scale}/logs/evaluate/{run}/seed-{seed}.log",
    benchmark:
        "results/{scale}/benchmarks/evaluate/{run}/seed-{seed}.tsv"
    conda:
        ENVIRONMENT
    params:
        name=lambda wildcards: registry.label(wildcards.run),
        code=fingerprint("mesaopt.evaluate"),
    shell:
        "python -m mesaopt evaluate --weights {input.weights} --sequences {input.sequences} --name {params.name:q}"
        " --out {output.loss} > {log} 2>&1"


rule extract:
    input:
        weights=rules.train.output.weights,
        spec=rules.train.output.spec,
    output:
        weights="results/{scale}/runs/{run}/seed-{seed}/weights.parquet",
        structure="results/{scale}/runs/{run}/seed-{seed}/structure.parquet",
    log:
        "results/{scale}/logs/extract/{run}/seed-{seed}.log",
    benchmark:
        "results/{scale}/benchmarks/extract/{run}/seed-{seed}.tsv"
    conda:
        ENVIRONMENT
    params:
        code=fingerprint("mesaopt.extract"),
    shell:
        "python -m mesaopt extract --weights {input.weights} --out {output.weights} --structure {output.structure} > {log} 2>&1"


rule interpolate:
    input:
        extracted=extracted_run,
        snapshots=rules.train.output.snapshots,
        spec=rules.train.output.spec,
    output:
        losses="results/{scale}/runs/{run}/seed-{seed}/interpolation.parquet",
    log:
        "results/{scale}/logs/interpolate/{run}/seed-{seed}.log",
    benchmark:
        "results/{scale}/benchmarks/interpolate/{run}/seed-{seed}.tsv"
    conda:
        ENVIRONMENT
    params:
        code=fingerprint("mesaopt.interpolate"),
    shell:
        "python -m mesaopt interpolate --extracted {input.extracted} --snapshots {input.snapshots} --out {output.losses} > {log} 2>&1"


rule probe:
    input:
        weights=rules.train.output.weights,
        spec=rules.train.output.spec,
        sequences=lambda wildcards: sequences_of(wildcards, wildcards.run),
        parameters=lambda wildcards: f"results/{wildcards.scale}/theory/{preconditioner(wildcards)}/parameters.parquet",
    output:
        probes="results/{scale}/runs/{run}/seed-{seed}/probes.parquet",
        in_context="results/{scale}/runs/{run}/seed-{seed}/in_context.parquet",
    log:
        "results/{scale}/logs/probe/{run}/seed-{seed}.log",
    benchmark:
        "results/{scale}/benchmarks/probe/{run}/seed-{seed}.tsv"
    conda:
        ENVIRONMENT
    params:
        theory=lambda wildcards: plan(wildcards.scale).algorithm(preconditioner(wildcards)).to_json(),
        code=fingerprint("mesaopt.probe"),
    shell:
        "python -m mesaopt probe --weights {input.weights} --sequences {input.sequences} --theory {params.theory:q}"
        " --parameters {input.parameters} --probes {output.probes} --in-context {output.in_context} --controls > {log} 2>&1"
