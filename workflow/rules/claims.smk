# What the rules of the agreement and of the page to browse read: tables, and published curves where there are any.

from mesaopt.agreement.claims_file import read_claims
from mesaopt.agreement.published import read_entries
from mesaopt.agreement.teachers import FIRST as FIRST_TEACHER, OTHERS as OTHER_TEACHERS


@cache
def claims():
    try:
        return read_claims(ROOT)
    except InputError as error:
        stop(error)


def claim_figures(wildcards):
    """The figures that claims read; at the `recorded` scale those that ship with the project."""
    here = recorded_figures() if wildcards.any_scale == "recorded" else figures_with_text()
    if not here:
        stop(f"there are no recorded tables in {ROOT / 'results/recorded/tables'}")
    return [name for name in claims().figures(wildcards.any_scale) if name in here and name not in config["agreement_without"]]


def claim_tables(wildcards):
    """And those of other teachers, where claims on the first one are judged."""
    found = claim_figures(wildcards)
    here = recorded_figures() if wildcards.any_scale == "recorded" else FIGURES
    wanted = FIRST_TEACHER in found and OTHER_TEACHERS in here and OTHER_TEACHERS not in config["agreement_without"]
    more = [OTHER_TEACHERS] if wanted else []
    return [f"{tables_of(wildcards.any_scale)}/{name}.parquet" for name in [*found, *more]]


def pictured():
    """The figures that the page shows, as far as their tables and records ship with the project."""
    shown = [topic.figure for topic in claims().topics.values() if topic.figure in recorded_figures()]
    return [name for name in shown if Path(f"{RECORDED}/records/{name}.json").exists()]


def draw_pictures(wildcards):
    """The command line that draws them, in one process."""
    drawn = [
        stage("draw").command(
            {
                "figure": name,
                "table": f"{tables_of('recorded')}/{name}.parquet",
                "provenance": f"{RECORDED}/records/{name}.json",
                "style": json.dumps({"dpi": 100}),
                "out": shipped(f"docs/figures/{plain(name)}.png"),
            }
        )
        for name in pictured()
    ]
    return f"python -P -m mesaopt {' then '.join(drawn)}" if drawn else "true"


@cache
def compared_figures(scale):
    """Figures with published curves, as far as their tables are there or may be made; a line says so when there is no folder."""
    if PUBLISHED is None:
        found = f"{config['published_tables']} is no folder" if config["published_tables"] else "published_tables is not set"
        print(f"mesaopt: our curves are not compared with published ones: {found} (config/README.md)", file=sys.stderr)
        return []
    try:
        named = dict.fromkeys(entry.figure for entry in read_entries(ROOT))
    except InputError as error:
        stop(error)
    here = recorded_figures() if scale == "recorded" else [name for name in FIGURES if name not in config["agreement_without"]]
    return [name for name in named if name in here]


def compared_tables(wildcards):
    scale = wildcards.any_scale
    return [f"{tables_of(scale)}/{name}.parquet" for name in compared_figures(scale)]


def comparison_of_curves(wildcards):
    """The table of published curves, if it can be made or ships with the project."""
    scale = wildcards.any_scale
    if compared_figures(scale):
        return [f"results/{scale}/curves.parquet"]
    path = f"{RECORDED if scale == 'recorded' else f'results/{scale}'}/curves.parquet"
    return [path] if Path(path).exists() else []


PUBLISHED_FILES = sorted(map(str, Path(PUBLISHED).glob("*.csv"))) if PUBLISHED else []


def browsed(wildcards):
    """Tables and records of figures, and histories of trainings, as far as they are there: nothing is made for the page, however
    old it is. So they are named as no rule's outputs are, from the root.
    """
    folder = Path(results_of(wildcards.any_scale))
    tables = [path for name in FIGURES if (path := folder / files.TABLE.place.format(figure=name)).exists()]
    if not tables:
        stop(f"{folder}/tables has no table of a figure to browse yet; make a figure first")
    records = [path for name in FIGURES if (path := folder / files.RECORD.place.format(figure=name)).exists()]
    return [os.path.abspath(path) for path in [*tables, *records, *files.history_files(folder)]]
