# A sweep of the user's own (`sweep:` in the configuration): its runs are trained and analysed like any other; here is their figure.

if plan(SWEPT).sweep:
    SWEEP = plan(SWEPT).sweep
    SWEEP = SWEEP.without([run for run in SWEEP.points if diverged(run)])

    rule sweep_table:
        input:
            [
                f"results/{SWEPT}/runs/{run}/seed-{seed}/{file}"
                for run in SWEEP.points
                for seed in plan(SWEPT).seeds
                for file in (f"{SWEEP.table}.parquet", "spec.json")
            ],
        output:
            table=f"results/{SWEPT}/tables/sweep.parquet",
            provenance=f"results/{SWEPT}/records/sweep.json",
        log:
            f"results/{SWEPT}/logs/collect/sweep.log",
        localrule: True
        conda:
            ENVIRONMENT
        params:
            sweep=SWEEP.to_json(),
            seeds=plan(SWEPT).seeds,
            results=f"results/{SWEPT}",
            code=stage_code("sweep-table"),
        shell:
            "python -P -m mesaopt sweep-table --sweep {params.sweep:q} --results {params.results} --seeds {params.seeds}"
            " --out {output.table} --provenance {output.provenance} > {log} 2>&1"

    rule draw_sweep:
        input:
            table=rules.sweep_table.output.table,
            provenance=rules.sweep_table.output.provenance,
        output:
            report(
                f"results/{SWEPT}/figures/sweep.{{format}}",
                caption="../report/sweep.rst",
                category="Figures",
                labels={"figure": "sweep", "format": "{format}", "scale": SWEPT},
            ),
        log:
            f"results/{SWEPT}/logs/draw/sweep.{{format}}.log",
        localrule: True
        conda:
            ENVIRONMENT
        params:
            style=json.dumps(config["style"], sort_keys=True),
            code=stage_code("draw-sweep"),
        shell:
            "python -P -m mesaopt draw-sweep --table {input.table} --provenance {input.provenance}"
            " --style {params.style:q} --out {output} > {log} 2>&1"
