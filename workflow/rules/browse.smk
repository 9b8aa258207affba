# A page of what is there at a scale, to look through with a browser.


rule browse_page:
    input:
        browsed,
        claims=shipped("config/claims.yaml"),
        published=PUBLISHED_FILES,
        mapping=shipped("config/published.yaml"),
    output:
        report(
            "results/{any_scale}/browse.html",
            caption="../report/browse.rst",
            category="Browse",
            labels={"what": "figures, claims and trainings to browse", "scale": "{any_scale}"},
        ),
    log:
        "results/{any_scale}/logs/browse.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        results=lambda wildcards: results_of(wildcards.any_scale),
        published=f"--published {quote(PUBLISHED)}" if PUBLISHED else "",
        code=stage_code("browse"),
    shell:
        "python -P -m mesaopt browse --results {params.results:q} --scale {wildcards.any_scale} {params.published}"
        " --out {output} > {log} 2>&1"


rule browse:
    """Everything at the scale on one page."""
    input:
        f"results/{SCALE}/browse.html",
