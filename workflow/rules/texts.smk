# What runs on text are trained on.

from mesaopt.data.packages import PACKAGES


def language_run(wildcards):
    """The run on text of a job."""
    return plan(wildcards.scale).any_run(wildcards.language)


def text_of(wildcards):
    """The tokens that a run on text is trained on."""
    if missing := plan(wildcards.scale).language.missing_text(language_run(wildcards).name):
        stop(f"{missing} (config/README.md)")
    return place(files.TOKENS).format(scale=wildcards.scale, text=task_of(wildcards.language))


def text_packages(wildcards):
    """The packages that a text, or its vocabulary, is read from."""
    from mesaopt.data.shards import package_names  # numpy, which planning anything else need not wait for

    named = package_names(plan(wildcards.scale).language.texts[wildcards.text])
    return [f"results/packages/{PACKAGES[name].file}" for name in named]


def on_text(file):
    """A file in the folder of a run on text."""
    return place(file).replace("{run}", "{language}")
