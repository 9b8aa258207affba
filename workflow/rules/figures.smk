# From results to a tidy table of every drawn value, from the table to a picture.


rule collect:
    input:
        lambda wildcards: [
            f"results/{wildcards.scale}/{path}"
            for path in registry.inputs(wildcards.figure, figure_seeds(wildcards), plan(wildcards.scale).looks)
        ],
    output:
        table=report(
            "results/{scale}/tables/{figure}.parquet",
            caption="../report/table.rst",
            category="Tables",
            labels={"figure": "{figure}", "scale": "{scale}"},
        ),
        provenance=report(
            "results/{scale}/records/{figure}.json",
            caption="../report/provenance.rst",
            category="Environment and provenance",
            labels={"figure": "{figure}", "scale": "{scale}"},
        ),
    log:
        "results/{scale}/logs/collect/{figure}.log",
    benchmark:
        "results/{scale}/benchmarks/collect/{figure}.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    params:
        seeds=figure_seeds,
        looks=figure_looks,
        code=stage_code("collect"),
    shell:
        "python -P -m mesaopt collect --figure {wildcards.figure} --results results/{wildcards.scale} --seeds {params.seeds}"
        " --looks {params.looks:q} --out {output.table} --provenance {output.provenance} > {log} 2>&1"


# A rule per figure, because each has a caption of its own in the report.
for name in FIGURES:

    rule:
        name:
            f"draw_{plain(name)}"
        input:
            table=figure_file(name, files.TABLE),
            provenance=figure_file(name, files.RECORD),
        output:
            report(
                f"results/{{any_scale}}/figures/{name}.{{format}}",
                caption=f"../report/{plain(name)}.rst",
                category="Figures",
                labels={"figure": name, "format": "{format}", "scale": "{any_scale}"},
            ),
        log:
            f"results/{{any_scale}}/logs/draw/{name}.{{format}}.log",
        benchmark:
            f"results/{{any_scale}}/benchmarks/draw/{name}.{{format}}.tsv"
        localrule: True
        conda:
            ENVIRONMENT
        params:
            figure=name,
            style=json.dumps(config["style"], sort_keys=True),
            strict="--strict-environment" if config["strict_environment"] else "",
            code=stage_code("draw"),
        shell:
            "python -P -m mesaopt draw --figure {params.figure} --table {input.table:q} --provenance {input.provenance:q}"
            " --style {params.style:q} {params.strict} --out {output} > {log} 2>&1"


rule publish:
    """figures/ holds copies of the last scale asked for; the originals of every scale stay where they are."""
    input:
        f"results/{SCALE}/figures/{{drawing}}.{{format}}",
    output:
        "figures/{drawing}.{format}",
    log:
        f"results/{SCALE}/logs/publish/{{drawing}}.{{format}}.log",
    localrule: True
    conda:
        ENVIRONMENT
    shell:
        "cp {input} {output} 2> {log}"


rule unknown_figure:
    """Names what can be drawn when something else is asked for."""
    input:
        no_such_figure,
    output:
        "{path}",
    log:
        "results/logs/unknown/{path}.log",
    wildcard_constraints:
        path=UNKNOWN_FIGURE,
    localrule: True
    conda:
        ENVIRONMENT
    shell:
        "false"


workflow.ruleorder("publish", *(f"draw_{plain(name)}" for name in FIGURES), "unknown_figure")
