# What the rules of the agreement read: tables that claims need, and published curves where there are any.


@cache
def claims():
    try:
        return read_claims(Path(workflow.basedir))
    except InputError as error:
        stop(error)


def claim_figures(wildcards):
    """The figures that claims read; at the `recorded` scale those that ship with the project."""
    here = recorded_figures() if wildcards.any_scale == "recorded" else FIGURES
    return [name for name in claims().figures(wildcards.any_scale) if name in here and name not in config["agreement_without"]]


def claim_tables(wildcards):
    return [f"results/{wildcards.any_scale}/tables/{name}.parquet" for name in claim_figures(wildcards)]


@cache
def compared_figures(scale):
    """Figures with published curves, as far as their tables are there or may be made; a line says so when there is no folder."""
    if PUBLISHED is None:
        found = f"{config['published_tables']} is no folder" if config["published_tables"] else "published_tables is not set"
        print(f"mesaopt: our curves are not compared with published ones: {found} (config/README.md)", file=sys.stderr)
        return []
    try:
        named = dict.fromkeys(entry.figure for entry in read_entries(Path(workflow.basedir)))
    except InputError as error:
        stop(error)
    here = recorded_figures() if scale == "recorded" else [name for name in FIGURES if name not in config["agreement_without"]]
    return [name for name in named if name in here]


def compared_tables(wildcards):
    scale = wildcards.any_scale
    return [f"results/{scale}/tables/{name}.parquet" for name in compared_figures(scale)]


def comparison_of_curves(wildcards):
    """The table of published curves, if it can be made or ships with the project."""
    path = f"results/{wildcards.any_scale}/curves.parquet"
    return [path] if compared_figures(wildcards.any_scale) or Path(path).exists() else []


PUBLISHED_FILES = sorted(map(str, Path(PUBLISHED).glob("*.csv"))) if PUBLISHED else []
