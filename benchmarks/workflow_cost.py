"""What the workflow costs beside the computing: `python benchmarks/workflow_cost.py [--laptop]`.

Seconds of wall time and of processor time for one figure from its recorded table, for everything up to date, for a dry run of
the laptop scale, and for starting a stage. With `--laptop` also the main job, `make figures`, in a fresh folder: its wall time,
and by rule how many jobs there are and what they take.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("Snakefile", "workflow", "config", "src", "environment.yml", "requirements.txt", "constraints.txt")
FIGURE = "figures/fig2.pdf"


def copy_of_the_project(folder: Path) -> Path:
    """What the workflow needs, with the recorded tables and without results of other scales."""
    for part in (*PARTS, "results/recorded/tables", "results/recorded/records"):
        source, target = ROOT / part, folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return folder


def seconds(command: Sequence[str], folder: Path) -> tuple[float, float]:
    """Wall time and processor time (with all children) of a command; raises `CalledProcessError` when it fails."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def snakemake(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", *arguments]


def costs(folder: Path) -> Iterator[tuple[str, tuple[float, float]]]:
    recorded = snakemake(FIGURE, "--config", "scale=recorded")
    seconds(recorded, folder)  # writes bytecode and the font cache
    for path in [folder / FIGURE, folder / "results/recorded" / FIGURE]:
        path.unlink()
    yield f"{FIGURE} from its recorded table", seconds(recorded, folder)
    yield "the same, up to date", seconds(recorded, folder)
    yield "dry run of figures 2 and 3, laptop", seconds(snakemake("-n", FIGURE, "figures/fig3.pdf"), folder)
    source = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r}); "
    for label, code in {
        "python alone": "pass",
        "starting a stage": source + "import mesaopt.__main__ as m; m.parser().format_help()",
        "import pandas, pyarrow": source + "import mesaopt.store.tables",
        "import of draw": source + "import mesaopt.figures.draw",
        "import torch": "import torch",
        "import of train": source + "import mesaopt.training.loop",
    }.items():
        yield label, seconds([sys.executable, "-c", code], folder)


def laptop(folder: Path) -> str:
    """Wall time of the main job, then jobs and seconds by rule, from Snakemake's own measurements."""
    wall, processor = seconds(snakemake(FIGURE, "figures/fig3.pdf"), folder)
    measured = folder / "results/laptop/benchmarks"
    found = [
        {"rule": path.relative_to(measured).parts[0], "seconds": pd.read_csv(path, sep="\t")["s"].sum()}
        for path in measured.rglob("*.tsv")
    ]
    by_rule = pd.DataFrame(found).groupby("rule")["seconds"].agg(["count", "sum", "median", "max"])
    by_rule = by_rule.sort_values("sum", ascending=False)
    total = f"{by_rule['count'].sum()} jobs of {by_rule['sum'].sum():.0f} s together"
    return f"make figures: {wall:.0f} s, {processor:.0f} s of processor time, {total}\n{by_rule.round(1).to_string()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--laptop", action="store_true", help="run the main job too: about six minutes")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    rows = []
    for number in range(args.repeats):
        with tempfile.TemporaryDirectory() as folder:
            rows += [{"what": what, "wall": wall, "cpu": cpu} for what, (wall, cpu) in costs(copy_of_the_project(Path(folder)))]
            print(f"repeat {number + 1} of {args.repeats}", file=sys.stderr, flush=True)
    frame = pd.DataFrame(rows).groupby("what", sort=False)[["wall", "cpu"]].median()
    print(f"seconds, medians of {args.repeats}; load now {os.getloadavg()[0]:.1f}\n{frame.round(2).to_string()}")
    if args.laptop:
        with tempfile.TemporaryDirectory() as folder:
            print(laptop(copy_of_the_project(Path(folder))))


if __name__ == "__main__":
    main()
