# From results to a tidy table of every drawn value, from the table to a picture.


def figure_seeds(wildcards):
    return plan(wildcards.scale).seeds


rule collect:
    input:
        lambda wildcards: [
            f"results/{wildcards.scale}/{path}" for path in registry.inputs(wildcards.figure, figure_seeds(wildcards))
        ],
    output:
        table="results/{scale}/tables/{figure}.parquet",
        provenance="results/{scale}/tables/{figure}.json",
    log:
        "results/{scale}/logs/collect/{figure}.log",
    benchmark:
        "results/{scale}/benchmarks/collect/{figure}.tsv"
    conda:
        ENVIRONMENT
    params:
        seeds=figure_seeds,
        code=fingerprint("mesaopt.figures.collect"),
    shell:
        "python -m mesaopt collect --figure {wildcards.figure} --results results/{wildcards.scale} --seeds {params.seeds}"
        " --out {output.table} --provenance {output.provenance} > {log} 2>&1"


def figure_table(suffix):
    def path(wildcards):
        table = f"results/{wildcards.any_scale}/tables/{wildcards.figure}.{suffix}"
        if wildcards.any_scale == "recorded" and not Path(table).exists():
            stop(f"{wildcards.figure} is not recorded yet; recorded are: {', '.join(recorded_figures()) or 'none'}")
        return table

    return path


rule draw:
    input:
        table=figure_table("parquet"),
        provenance=figure_table("json"),
    output:
        report(
            "results/{any_scale}/figures/{figure}.{format}",
            caption=lambda wildcards: f"../report/{wildcards.figure.replace('/', '-')}.rst",
            category="Figures",
        ),
    log:
        "results/{any_scale}/logs/draw/{figure}.{format}.log",
    benchmark:
        "results/{any_scale}/benchmarks/draw/{figure}.{format}.tsv"
    wildcard_constraints:
        any_scale="|".join([*COMPUTED_SCALES, "recorded"]),
    conda:
        ENVIRONMENT
    params:
        style=json.dumps(config["style"], sort_keys=True),
        code=fingerprint("mesaopt.figures.draw"),
    shell:
        "python -m mesaopt draw --figure {wildcards.figure} --table {input.table} --provenance {input.provenance}"
        " --style {params.style:q} --out {output} > {log} 2>&1"


rule publish:
    """figures/ holds copies of the last scale asked for; the originals of every scale stay where they are."""
    input:
        f"results/{SCALE}/figures/{{figure}}.{{format}}",
    output:
        "figures/{figure}.{format}",
    log:
        f"results/{SCALE}/logs/publish/{{figure}}.{{format}}.log",
    localrule: True
    conda:
        ENVIRONMENT
    shell:
        "cp {input} {output} 2> {log}"
