"""The paper in an hour on one GPU: what every training at the paper scale is expected to take, and took where it was made.

`python benchmarks/hour.py [--device H100] [--results results/paper] [docs/speed.md]` prints a table, or writes it into the file.
Expected seconds come from config/rates.yaml; measured ones from the provenance of trainings that were made on a GPU.
"""

import argparse
import json
from pathlib import Path

from speed_table import replace_table

from mesaopt.spec.cost import REST, Rates, duration, step_flops, training_flops
from mesaopt.spec.plan import Plan, resolve
from mesaopt.spec.run import Run
from mesaopt.workflow_settings import read_settings

ROOT = Path(__file__).resolve().parent.parent


def trained_runs(plan: Plan) -> list[Run]:
    """The runs that are trained; those that are the beginning of a longer one cost nothing."""
    return [run for name, run in plan.runs.items() if name not in plan.beginnings]


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


def table(plan: Plan, rates: Rates, device_name: str, results: Path) -> str:
    device = rates.device(device_name)
    lines = ["| run | layers | GFLOP a step | steps | PFLOP | expected, s | measured, s |", "|---|---|---|---|---|---|---|"]
    total, operations, seeds = 0.0, 0.0, len(plan.seeds)
    for run in sorted(trained_runs(plan), key=lambda run: -training_flops(run, rates.recursion)):
        flops, step = training_flops(run, rates.recursion) * seeds, step_flops(run, rates.recursion)
        expected, found = device.seconds(run, rates.recursion) * seeds, measured(run, plan.seeds, results)
        kinds = ", ".join(f"{run.model.layers.count(kind)} {kind}" for kind in step if kind != REST)
        took = "-" if found is None else f"{found:.0f}"
        size = f"{sum(step.values()) / 1e9:.1f} | {run.training.steps} | {flops / 1e15:.2f}"
        lines.append(f"| `{run.name}` | {kinds} | {size} | {expected:.0f} | {took} |")
        total, operations = total + expected, operations + flops
    learning = max(device.learning(theory) for theory in plan.theory.values())
    note = f" ({device.note})" if device.note else ""
    beside = f"The longest learning of a hand-written algorithm: {duration(learning)} on a core beside it."
    end = f"Expected on one {device.name}, {seeds} seeds stacked: **{duration(total)}** for {operations / 1e15:.0f} PFLOP{note}. "
    return "\n".join([*lines, "", end + beside])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("page", nargs="?", type=Path)
    parser.add_argument("--device", default="H100")
    parser.add_argument("--results", type=Path, default=ROOT / "results/paper")
    given = parser.parse_args()
    settings = read_settings(ROOT, {"scale": "paper"})
    plan = resolve(settings.experiments, settings.scales, settings.config, "paper")
    text = table(plan, Rates.read(ROOT), given.device, given.results)
    if given.page is None:
        print(text)
        return
    given.page.write_text(replace_table(given.page.read_text(), text, "hour"))


if __name__ == "__main__":
    main()
