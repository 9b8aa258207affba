"""The paper in an hour on one GPU: what every training at the paper scale is expected to take, and took where it was made.

`python benchmarks/hour.py [--device H100] [--results results/paper] [docs/speed.md]` prints a table, or writes it into the file.
Expected seconds come from config/rates.yaml; measured ones from the provenance of trainings that were made on a GPU.
"""

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from speed_table import replace_table

from mesaopt.figures.registry import FIGURES, analyses, chosen, runs
from mesaopt.spec.cost import FITTED, REST, Device, Rates, duration, fit_flops, step_flops, training_flops
from mesaopt.spec.plan import Plan, resolve
from mesaopt.spec.run import Run
from mesaopt.spec.stage import Stage
from mesaopt.spec.stages import stage
from mesaopt.workflow_settings import read_settings

ROOT = Path(__file__).resolve().parent.parent
#: tasks of the largest states
LARGE = ("unclipped-n40-", "unclipped-n60-")


def seeds_of_runs(plan: Plan, names: Iterable[str]) -> dict[str, int]:
    """Of every run that is trained for these figures how many seeds; a run that is the beginning of a longer one is that one."""
    found: dict[str, int] = {}
    for name in names:
        for run, which in runs(name, plan.looks).items():
            longer = plan.beginnings.get(run, run)
            if longer in plan.runs:  # no language model
                found[longer] = max(found.get(longer, 0), len(chosen(which, plan.seeds)))
    return found


def measured(run: Run, seeds: tuple[int, ...], results: Path) -> float | None:
    """Seconds that all seeds took on a GPU, where all of them were trained there: of a pack, those of one that was in it."""
    packs = {}
    for seed in seeds:
        try:
            facts = json.loads((results / "runs" / run.name / f"seed-{seed}" / "provenance.json").read_text())
        except FileNotFoundError:
            return None
        if facts.get("device", "cpu") == "cpu":
            return None
        packs[tuple(facts["pack"])] = facts["seconds"]
    return sum(packs.values())


def rests_on(one: Stage, other: Stage) -> bool:
    """Whether an analysis is the other one, or reads what that writes."""
    return one.name == other.name or bool({file.place for file in one.reads} & {file.place for file in other.writes})


def work(plan: Plan, rates: Rates, device: Device) -> Iterator[tuple[Run, str, float, float]]:
    """Trainings of one seed, and what is fitted beside them: run, words, petaflops, seconds."""
    shown = [(stage(name), set(of)) for names, of in analyses(plan.looks).items() for name in names]
    fitted = {name: set[str]().union(*(of for one, of in shown if rests_on(one, stage(name)))) for name in FITTED}
    for run in plan.runs.values():
        step, training = step_flops(run, rates.recursion), run.training
        kinds = ", ".join(f"{run.model.layers.count(kind)} {kind}" for kind in step if kind != REST)
        words = f"{kinds} | {training.steps} steps of {sum(step.values()) / 1e9:.1f} GFLOP"
        yield run, words, training_flops(run, rates.recursion) / 1e15, device.seconds(run, rates.recursion)
        for name in (name for name, of in fitted.items() if run.name in of):
            settings = plan.analysis(name, run.name)
            flops = fit_flops(run, settings, rates.recursion) / 1e15
            yield run, f"`{name}` | {settings.steps} steps", flops, device.fitting(run, settings, rates.recursion)


def table(plan: Plan, rates: Rates, device_name: str, results: Path) -> str:
    device, published = rates.device(device_name), [name for name in FIGURES if not name.startswith("ext/")]
    asked, every = seeds_of_runs(plan, published), seeds_of_runs(plan, FIGURES)
    ends = {"the paper's figures": asked}
    ends["the same without states of 40 and 60 dimensions"] = {n: s for n, s in asked.items() if not n.startswith(LARGE)}
    ends["the figures that this project adds"] = {n: s - asked.get(n, 0) for n, s in every.items()}
    totals, lines = {words: [0.0, 0.0] for words in ends}, []
    for run, what, petaflops, expected in work(plan, rates, device):
        if not (count := every.get(run.name)):
            continue
        for words, seeds in ends.items():
            totals[words][0] += expected * seeds.get(run.name, 0)
            totals[words][1] += petaflops * seeds.get(run.name, 0)
        found = None if what.startswith("`") else measured(run, plan.seeds, results)
        took = "-" if found is None else f"{found:.0f}"
        cells = f"| `{run.name}` | {what} | {count} | {petaflops * count:.2f} | {expected * count:.0f} | {took} |"
        lines.append((petaflops * count, cells))
    lines.sort(key=lambda line: -line[0])
    head = ["| run | layers, or what is fitted | steps | seeds | PFLOP | expected, s | measured, s |", "|---" * 7 + "|"]
    learning = max(device.learning(theory) for theory in plan.theory.values())
    note = f" ({device.note})" if device.note else ""
    sums = "; ".join(f"{words}: **{duration(total)}** for {size:.0f} PFLOP" for words, (total, size) in totals.items())
    beside = f"The longest learning of a hand-written algorithm: {duration(learning)} on a core beside it."
    end = f"Expected on one {device.name}{note}, seeds stacked, all but language: {sums}. {beside}"
    return "\n".join([*head, *(cells for _, cells in lines), "", end])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("page", nargs="?", type=Path)
    parser.add_argument("--device", default="H100")
    parser.add_argument("--results", type=Path, default=ROOT / "results/paper")
    given = parser.parse_args()
    settings = read_settings(ROOT, {"scale": "paper"})
    paper = {**settings.scales["paper"], "without": []}
    plan = resolve(settings.experiments, {**settings.scales, "paper": paper}, settings.config, "paper")
    text = table(plan, Rates.read(ROOT), given.device, given.results)
    if given.page is None:
        print(text)
        return
    given.page.write_text(replace_table(given.page.read_text(), text, "hour"))


if __name__ == "__main__":
    main()
