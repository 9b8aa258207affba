# Is this the declared environment, and do results come out the same twice? Asked anew each time. The environment's table is no
# declared output, so that a drift leaves it in place.


rule environment:
    log:
        f"results/{SCALE}/logs/environment.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        project=str(ROOT),
        table=f"results/{SCALE}/environment.parquet",
    shell:
        "python -P -m mesaopt environment --project {params.project:q} --out {params.table} 2>&1 | tee {log}"


REPRODUCED = [f"results/smoke/tables/{figure}.parquet" for figure in FIGURES]


rule reproduction:
    """The smoke chain twice in fresh folders, with other packs, cores and job order; then every file is compared."""
    log:
        "results/smoke/logs/reproduction.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        folder="results/smoke/reproduction",
        snakefile=str(ROOT / "workflow/Snakefile"),
        forwards=REPRODUCED,
        backwards=REPRODUCED[::-1],
    shell:
        "( rm -rf {params.folder} && mkdir -p {params.folder}/first {params.folder}/second"
        " && snakemake --snakefile {params.snakefile:q} --config scale=smoke device=cpu pack=1"
        " --directory {params.folder}/first --cores 1 -- {params.forwards}"
        " && snakemake --snakefile {params.snakefile:q} --config scale=smoke device=cpu pack=2"
        " --directory {params.folder}/second --cores 2 --scheduler greedy --prioritize {params.backwards} -- {params.backwards}"
        " && python -P -m mesaopt compare --more --first {params.folder}/first/results/smoke"
        " --second {params.folder}/second/results/smoke ) 2>&1 | tee {log}"
