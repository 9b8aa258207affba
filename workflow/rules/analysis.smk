# What is read out of trained models, per run and seed. The analyses that figures want of a run share one process, because its
# start takes longer than most of them. Of a run in no figure every analysis is a job of its own.

TRAINED_MODEL = dict(weights=rules.train.output.weights, spec=rules.train.output.spec)

#: by stage: what it reads and writes; the arguments that are not files are functions of the wildcards
ANALYSES = {
    "evaluate": dict(
        input=TRAINED_MODEL | dict(sequences=lambda wildcards: sequences_of(wildcards, wildcards.run)),
        output=dict(loss=f"{RUN_FOLDER}/loss.parquet"),
        arguments=dict(name=lambda wildcards: plan(wildcards.scale).looks[wildcards.run].label),
        call="evaluate --weights {input.weights} --sequences {input.sequences} --name {name} --out {output.loss}",
    ),
    "extract": dict(
        input=TRAINED_MODEL,
        output=dict(products=f"{RUN_FOLDER}/weights.parquet", structure=f"{RUN_FOLDER}/structure.parquet"),
        arguments={},
        call="extract --weights {input.weights} --out {output.products} --structure {output.structure}",
    ),
    "interpolate": dict(
        input=dict(extracted=extracted_run, snapshots=rules.train.output.snapshots, spec=rules.train.output.spec),
        output=dict(losses=f"{RUN_FOLDER}/interpolation.parquet"),
        arguments={},
        call="interpolate --extracted {input.extracted} --snapshots {input.snapshots} --out {output.losses}",
    ),
    "probe": dict(
        input=TRAINED_MODEL
        | dict(
            sequences=lambda wildcards: sequences_of(wildcards, wildcards.run),
            parameters=lambda wildcards: f"results/{wildcards.scale}/theory/{preconditioner(wildcards)}/parameters.parquet",
        ),
        output=dict(probes=f"{RUN_FOLDER}/probes.parquet", in_context=f"{RUN_FOLDER}/in_context.parquet"),
        arguments=dict(theory=lambda wildcards: plan(wildcards.scale).algorithm(preconditioner(wildcards)).to_json()),
        call="probe --weights {input.weights} --sequences {input.sequences} --theory {theory}"
        " --parameters {input.parameters} --probes {output.probes} --in-context {output.in_context} --controls",
    ),
}


def of_all(stages, what):
    """Inputs or outputs of several analyses together."""
    return {name: value for stage in stages for name, value in ANALYSES[stage][what].items()}


def calls(stages):
    """The command line of several analyses in one process, as a parameter (a rule's `shell` cannot depend on a loop)."""

    def of(wildcards, input, output):
        arguments = [{name: quote(value(wildcards)) for name, value in ANALYSES[one]["arguments"].items()} for one in stages]
        parts = [ANALYSES[one]["call"].format(input=input, output=output, **a) for one, a in zip(stages, arguments)]
        return " then ".join(parts)

    return of


for stages, runs in analysis_groups(ANALYSES):

    rule:
        name:
            "_".join(stages)
        input:
            **of_all(stages, "input"),
        output:
            **of_all(stages, "output"),
        log:
            f"results/{{scale}}/logs/{'_'.join(stages)}/{{run}}/seed-{{seed}}.log",
        benchmark:
            f"results/{{scale}}/benchmarks/{'_'.join(stages)}/{{run}}/seed-{{seed}}.tsv"
        wildcard_constraints:
            run="|".join(runs),
        priority: SECOND if {"interpolate", "probe"} & set(stages) else 0
        conda:
            ENVIRONMENT
        params:
            calls=calls(stages),
            code=lambda wildcards, stages=stages: [run_code(f"mesaopt.stages.{stage}")(wildcards) for stage in stages],
        shell:
            "python -m mesaopt {params.calls} > {log} 2>&1"
