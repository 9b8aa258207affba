# A page of what is there at a scale, to look through with a browser.


def there(wildcards):
    """Tables and records of figures, and histories of trainings, as far as they are there: nothing is made for the page, however
    old it is. So they are named as no rule's outputs are, from the root.
    """
    folder = Path(results_of(wildcards.any_scale))
    tables = [path for name in FIGURES if (path := folder / files.TABLE.place.format(figure=name)).exists()]
    if not tables:
        stop(f"{folder}/tables has no table of a figure to browse yet; make a figure first")
    records = [path for name in FIGURES if (path := folder / files.RECORD.place.format(figure=name)).exists()]
    return [os.path.abspath(path) for path in [*tables, *records, *files.history_files(folder)]]


rule browse_page:
    input:
        there,
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
