# How fast trainings are on this machine: measured when there is no table yet, on all cores, beside no other job.

MEASURED_SPEED = "results/recorded/speed" if SCALE == "recorded" else "results/benchmarks/speed"


rule measure_speed:
    output:
        table="results/benchmarks/speed.parquet",
        provenance="results/benchmarks/speed.json",
    log:
        "results/benchmarks/speed.log",
    localrule: True
    conda:
        ENVIRONMENT
    threads: workflow.cores
    params:
        script=f"{workflow.basedir}/benchmarks/training_speed.py",
    shell:
        "python {params.script:q} --out {output.table} > {log} 2>&1"


rule draw_speed:
    input:
        table=f"{MEASURED_SPEED}.parquet",
        provenance=f"{MEASURED_SPEED}.json",
    output:
        "figures/speed.{format}",
    log:
        f"results/benchmarks/speed-figure.{{format}}.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        script=f"{workflow.basedir}/benchmarks/speed_figure.py",
    shell:
        "python {params.script:q} {input.table} {output} > {log} 2>&1"
