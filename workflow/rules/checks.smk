# Is this the declared environment? Asked anew each time; the table is no declared output, so that a drift leaves it in place.


rule environment:
    log:
        f"results/{SCALE}/logs/environment.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        project=workflow.basedir,
        table=f"results/{SCALE}/environment.parquet",
    shell:
        "python -m mesaopt environment --project {params.project:q} --out {params.table} 2>&1 | tee {log}"
