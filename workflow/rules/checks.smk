# Is this the declared environment, and do results come out the same twice? Asked anew each time. The environment's table is no
# declared output, so that a drift leaves it in place.


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
        snakemake=f"snakemake --snakefile '{workflow.basedir}/Snakefile' --config scale=smoke device=cpu",
        forwards=REPRODUCED,
        backwards=REPRODUCED[::-1],
    shell:
        "( rm -rf {params.folder} && mkdir -p {params.folder}/first {params.folder}/second"
        " && {params.snakemake} pack=1 --directory {params.folder}/first --cores 1 -- {params.forwards}"
        " && {params.snakemake} pack=2 --directory {params.folder}/second --cores 2 --scheduler greedy"
        " --prioritize {params.backwards} -- {params.backwards}"
        " && python -m mesaopt compare --more --first {params.folder}/first/results/smoke"
        " --second {params.folder}/second/results/smoke ) 2>&1 | tee {log}"
