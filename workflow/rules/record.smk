# The tables of a finished paper run are added to the recorded ones, which ship with the project (and lie there, wherever
# the run was made).


rule record:
    log:
        "results/paper/logs/record.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        recorded=RECORDED,
    shell:
        "python -P -m mesaopt record --results results/paper --recorded {params.recorded:q} 2>&1 | tee {log}"


rule release:
    """What is recorded as one archive for a repository of research data (RO-Crate), of a commit."""
    log:
        "results/recorded/logs/release.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        recorded=RECORDED,
        project=str(ROOT),
        archive="results/mesaopt.crate.zip",
    shell:
        "python -P -m mesaopt release --recorded {params.recorded:q} --project {params.project:q} --out {params.archive} 2>&1 | tee {log}"


rule analyses:
    """Every analysis that figures show, of all trained runs; with `scale=recorded` of the weights that ship with the project."""
    input:
        lambda wildcards: list(every_analysis()),
