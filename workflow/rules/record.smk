# The tables of a finished paper run are added to the recorded ones, which ship with the project.


rule record:
    log:
        "results/paper/logs/record.log",
    localrule: True
    conda:
        ENVIRONMENT
    shell:
        "python -m mesaopt record --results results/paper --recorded results/recorded 2>&1 | tee {log}"
