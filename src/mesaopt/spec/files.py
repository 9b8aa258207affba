"""Files of results that more than one stage names, and where they lie below results/{scale}/."""

from pathlib import Path

from mesaopt.spec.arguments import File

#: the folder of config/ and environment.yml, when the package runs from its source tree
PROJECT = Path(__file__).resolve().parents[3]
RUN, THEORY = "runs/{run}/seed-{seed}", "theory/{algorithm}"


def run_table(table: str, name: str = "", option: str = "", optional: bool = False) -> File:
    """A table beside a run's weights, in a file of the same name; `option` is what the command line calls it, if not `name`."""
    return File(name or table, f"{RUN}/{table}.parquet", table, option, optional)


def recorded_place(file: File) -> str:
    """Where a file of a training, or of a hand-written algorithm, lies below results/recorded/ if it ships with the project.

    Not where the workflow makes such files: what ships and what is made of it stay apart.
    """
    return f"weights/{file.place.partition('/')[2]}"


#: of a task, drawn anew for every seed
SEQUENCES = File("sequences", "data/{task}/seed-{seed}.parquet", "sequences")
#: of a training
WEIGHTS = File("weights", f"{RUN}/weights.safetensors")
SNAPSHOTS = File("snapshots", f"{RUN}/snapshots.safetensors")
HISTORY = File("history", f"{RUN}/history.parquet", "history")
SPEC = File("spec", f"{RUN}/spec.json")
PROVENANCE = File("provenance", f"{RUN}/provenance.json")
#: of a text
TOKENS = File("tokens", "text/{text}/tokens.json")
#: of a training on text
LANGUAGE_HISTORY = run_table("language_history")
#: of a hand-written algorithm
PARAMETERS = File("parameters", f"{THEORY}/parameters.parquet", "parameters")
#: of the algorithm whose form is the published one
PUBLISHED_PARAMETERS = File("published_parameters", PARAMETERS.place, "parameters", option="published-parameters")
#: of a figure
TABLE = File("table", "tables/{figure}.parquet")
#: not beside its table: others scan the folder of tables as a whole
RECORD = File("provenance", "records/{figure}.json")
#: of all figures
AGREEMENT = File("agreement", "agreement.parquet", "agreement")
CURVES = File("curves", "curves.parquet", "curves")
SPREAD = File("spread", "spread.parquet", "spread")
TEACHERS = File("teachers", "teachers.parquet", "teachers")
PAGE = File("page", "agreement.md")


def history_files(results: Path) -> list[Path]:
    """The histories of trainings that are in a scale's folder, or in that of what ships with the project."""
    patterns = [place.format(run="*/*", seed="*") for place in (HISTORY.place, recorded_place(HISTORY))]
    return sorted(path for pattern in patterns for path in results.glob(pattern))
