# How fast trainings are on this machine: measured when there is no table yet, on all cores, beside no other job.


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
        script=shipped("benchmarks/training_speed.py"),
    shell:
        # its neighbours are modules of it
        "PYTHONSAFEPATH= python {params.script:q} --out {output.table} > {log} 2>&1"


rule draw_speed:
    input:
        table=measured_speed("parquet"),
        provenance=measured_speed("json"),
    output:
        "figures/speed.{format}",
    log:
        "results/benchmarks/speed-figure.{format}.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        script=shipped("benchmarks/speed_figure.py"),
    shell:
        "python -P {params.script:q} {input.table:q} {output} > {log} 2>&1"
