# What is read out of trained models, per run and seed: a rule for each entry `of="run"` in src/mesaopt/spec/stages.py. The quick
# ones that figures want of a run share one process, because its start takes longer than most of them. Of a run in no figure
# every analysis is a job of its own.

#: files that analyses read and that do not lie in the folder of the run, by name
ELSEWHERE = dict(
    sequences=lambda wildcards: sequences_of(wildcards, wildcards.run),
    parameters=preconditioner_parameters("textbook"),
    published_parameters=preconditioner_parameters("published"),
    extracted=extracted_run,
    pairs=lambda wildcards: place(files.SEQUENCES).format(
        scale=wildcards.scale,
        task=analysis_settings("few-shot", wildcards.scale, wildcards.run).pairs,
        seed=wildcards.seed,
    ),
    first=first_training,
)

#: values of the options that are no files, by name; other options keep their default
VALUES = dict(
    name=lambda wildcards: label_of(wildcards.scale, wildcards.run),
    theory=lambda wildcards: plan(wildcards.scale).algorithm(preconditioner(wildcards, "textbook")).to_json(),
    **{"published-theory": lambda wildcards: plan(wildcards.scale).algorithm(preconditioner(wildcards, "published")).to_json()},
    controls=lambda wildcards: True,
    task=lambda wildcards: pairs_of(wildcards).to_json(),
    checkpoints=lambda wildcards: f"results/{wildcards.scale}/checkpoints",
)


#: what analyses read that trainings write
OF_TRAININGS = (*stage("train").writes, *stage("train").beside)


def input_of(file):
    if file.place in {of.place for of in OF_TRAININGS}:
        return of_training(file)
    if not file.place.startswith(files.RUN) and file.name not in ELSEWHERE:
        stop(f"{file.name}: workflow/rules/analysis.smk does not say which file that is")
    return ELSEWHERE.get(file.name) or place(file)


def values_of(one, wildcards):
    """Values of an analysis' options that are no files, and its settings where they are not the default."""
    values = {option.name: VALUES[option.name](wildcards) for option in one.arguments if option.name in VALUES}
    changed = analysis_settings(one.name, wildcards.scale, wildcards.run).to_json() if one.settings else "{}"
    return values | ({} if changed == "{}" else {"settings": changed})


def on_device(one):
    """Where an analysis computes, and how often it saves where it is: no values of its own, since its results stay the same."""
    wanted = {
        "device": (config["analysis_device"], "cpu"),
        "backend": (config["backend"], "auto"),
        "checkpoint-every": (config["checkpoint_every"], 20),
    }
    can = {option.name for option in one.arguments}
    return {name: value for name, (value, default) in wanted.items() if name in can and value != default}


def code_of(one, wildcards):
    """The code that an analysis depends on; that of a task which it draws from beside its run's own is named by no import."""
    draws = any(option.name == "task" for option in one.arguments)
    return stage_code(one.name, plan(wildcards.scale).run(wildcards.run), *([pairs_of(wildcards)] if draws else []))


def command(entries):
    """The command line of several analyses in one process, as a parameter (a rule's `shell` cannot depend on a loop)."""

    def given(one, wildcards, input, output):
        read, written = (
            {file.option: at[file.name] for file in of if file.name in at.keys()}
            for at, of in ((input, one.reads), (output, one.writes))
        )
        return values_of(one, wildcards) | on_device(one) | read | written

    return lambda wildcards, input, output: " then ".join(one.command(given(one, wildcards, input, output)) for one in entries)


for entries, runs, written in analysis_groups():
    names = "_".join(one.name for one in entries) + ("_raw" if len(written) < sum(len(one.writes) for one in entries) else "")

    rule:
        name:
            names
        input:
            **{file.name: input_of(file) for one in entries for file in one.reads},
            spec=of_training(files.SPEC),
        output:
            **{file.name: place(file) for file in written},
        log:
            f"results/{{scale}}/logs/{names}/{{run}}/seed-{{seed}}.log",
        benchmark:
            f"results/{{scale}}/benchmarks/{names}/{{run}}/seed-{{seed}}.tsv"
        wildcard_constraints:
            run="|".join(runs),
            scale=ANALYSED,
        priority: SECOND if any(one.early or not one.quick for one in entries) else 0
        group:
            shared_job(entries)
        conda:
            ENVIRONMENT
        resources:
            **asked_by(entries),
        params:
            command=command(entries),
            # jobs depend on them; on a parameter that is made of files, as `command` is, they would not
            values=lambda wildcards, entries=entries: [values_of(one, wildcards) for one in entries],
            code=lambda wildcards, entries=entries: [code_of(one, wildcards) for one in entries],
        shell:
            "python -P -m mesaopt {params.command} > {log} 2>&1"
