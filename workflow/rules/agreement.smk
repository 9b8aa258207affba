# Is this what the paper says? Every claim of config/claims.yaml judged on the tables of a scale, every published curve compared.


rule judge:
    input:
        tables=claim_tables,
        claims=shipped("config/claims.yaml"),
        published=PUBLISHED_FILES,
        mapping=shipped("config/published.yaml"),
    output:
        agreement="results/{any_scale}/agreement.parquet",
        teachers="results/{any_scale}/teachers.parquet",
    log:
        "results/{any_scale}/logs/agreement/judge.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        tables=tables_of_scale,
        without=config["agreement_without"],
        published=f"--published {quote(PUBLISHED)}" if PUBLISHED else "",
        code=stage_code("judge"),
    shell:
        "python -P -m mesaopt judge --tables {params.tables:q}"
        " --scale {wildcards.any_scale} --without {params.without} {params.published} --out {output.agreement}"
        " --teachers {output.teachers} 2>&1 | tee {log}"


rule spread:
    """Bands over training seeds against bands over test batches."""
    input:
        claim_tables,
    output:
        spread="results/{any_scale}/spread.parquet",
    log:
        "results/{any_scale}/logs/agreement/spread.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        tables=tables_of_scale,
        figures=claim_figures,
        code=stage_code("spread"),
    shell:
        "python -P -m mesaopt spread --tables {params.tables:q} --figures {params.figures} --out {output.spread} > {log} 2>&1"


rule agreement_page:
    input:
        agreement=rules.judge.output.agreement,
        curves=comparison_of_curves,
        spread=rules.spread.output.spread,
        teachers=rules.judge.output.teachers,
        claims=shipped("config/claims.yaml"),
    output:
        page="results/{any_scale}/agreement.md",
        html=report(
            "results/{any_scale}/agreement.html",
            caption="../report/agreement.rst",
            category="Agreement",
            labels={"what": "in words", "scale": "{any_scale}"},
        ),
    log:
        "results/{any_scale}/logs/agreement/page.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        curves=lambda wildcards, input: f"--curves {quote(str(input.curves))}" if input.curves else "",
        code=stage_code("agreement-page") + stage_code("page-html"),
    shell:
        "python -P -m mesaopt agreement-page --agreement {input.agreement} --spread {input.spread} --teachers {input.teachers}"
        " {params.curves}"
        " --scale {wildcards.any_scale} --out {output.page} then page-html --page {output.page} --out {output.html} > {log} 2>&1"


rule draw_agreement:
    input:
        agreement=rules.judge.output.agreement,
        claims=shipped("config/claims.yaml"),
    output:
        report(
            "results/{any_scale}/figures/agreement.{format}",
            caption="../report/agreement.rst",
            category="Agreement",
            labels={"what": "every claim", "scale": "{any_scale}"},
        ),
    log:
        "results/{any_scale}/logs/agreement/draw.{format}.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        style=json.dumps(config["style"], sort_keys=True),
        code=stage_code("draw-agreement"),
    shell:
        "python -P -m mesaopt draw-agreement --agreement {input.agreement}"
        " --scale {wildcards.any_scale} --style {params.style:q} --out {output} > {log} 2>&1"


# Without published tables there is no such rule, so that a comparison that ships with the project stays as it is.
if PUBLISHED:

    rule compare_curves:
        input:
            tables=compared_tables,
            published=PUBLISHED_FILES,
            mapping=shipped("config/published.yaml"),
        output:
            curves="results/{any_scale}/curves.parquet",
        log:
            "results/{any_scale}/logs/agreement/curves.log",
        localrule: True
        conda:
            ENVIRONMENT
        params:
            tables=tables_of_scale,
            published=PUBLISHED,
            code=stage_code("compare-curves"),
        shell:
            "python -P -m mesaopt compare-curves --tables {params.tables:q}"
            " --published {params.published:q} --out {output.curves} 2>&1 | tee {log}"

    rule overlay:
        input:
            table=lambda wildcards: f"{tables_of(wildcards.any_scale)}/{wildcards.figure}.parquet",
            published=PUBLISHED_FILES,
            mapping=shipped("config/published.yaml"),
        output:
            report(
                "results/{any_scale}/figures/agreement/{figure}.{format}",
                caption="../report/overlay.rst",
                category="Agreement",
                labels={"what": "{figure}, published curves", "scale": "{any_scale}"},
            ),
        log:
            "results/{any_scale}/logs/agreement/{figure}.{format}.log",
        localrule: True
        conda:
            ENVIRONMENT
        params:
            published=PUBLISHED,
            style=json.dumps(config["style"], sort_keys=True),
            code=stage_code("overlay"),
        shell:
            "python -P -m mesaopt overlay --figure {wildcards.figure} --table {input.table:q}"
            " --published {params.published:q} --style {params.style:q} --out {output} > {log} 2>&1"


rule agreement:
    """Every claim judged, in a table, in words and in a figure; bands compared, and every published curve."""
    input:
        f"results/{SCALE}/agreement.md",
        f"results/{SCALE}/agreement.parquet",
        expand("figures/agreement.{format}", format=config["formats"]),
        lambda wildcards: expand("figures/agreement/{figure}.{format}", figure=compared_figures(SCALE), format=config["formats"]),


rule write_page:
    """The page that ships with the project, its pictures, and the ends of the captions, from the recorded tables."""
    input:
        page="results/recorded/agreement.md",
        agreement="results/recorded/agreement.parquet",
        tables=lambda wildcards: [f"{tables_of('recorded')}/{name}.parquet" for name in pictured()],
    log:
        "results/recorded/logs/agreement/write_page.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        page=shipped("docs/agreement.md"),
        captions=shipped("workflow/report"),
        pictures=draw_pictures,
    shell:
        "cp {input.page} {params.page:q} 2> {log} && "
        "{params.pictures} >> {log} 2>&1 && "
        "python -P -m mesaopt captions --agreement {input.agreement} --captions {params.captions:q} >> {log} 2>&1"
