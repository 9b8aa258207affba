# Reproduces, checks and extends arXiv:2309.05858. `snakemake figures/fig3.pdf` makes one figure and only what it needs;
# `snakemake -n TARGET` shows what that is. Settings: config/; a run's way from data to figure: README, section "How it works".


configfile: f"{workflow.basedir}/config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/theory.smk"
include: "workflow/rules/analysis.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/claims.smk"
include: "workflow/rules/agreement.smk"
include: "workflow/rules/record.smk"
include: "workflow/rules/checks.smk"
include: "workflow/rules/speed.smk"


rule all:
    default_target: True
    input:
        expand("figures/{figure}.{format}", figure=[*drawable_figures(), "agreement"], format=config["formats"]),
        f"results/{SCALE}/agreement.md",
