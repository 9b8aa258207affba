"""How long tuned prompts and distilled layers take at the paper scale: `python benchmarks/fitting_speed.py [--rounds 3]`.

Milliseconds a step on one core, by PyTorch and by compiled code, in alternating rounds, drawing and both kinds of tokens
included; models are untrained, which changes no operation. The last column is what a whole one takes, and the rate that
`config/rates.yaml` calls `fit`.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from mesaopt.models.transformer import initialise
from mesaopt.spec.cost import Rates, fit_flops
from mesaopt.spec.plan import Plan, resolve
from mesaopt.training.distillation import distil
from mesaopt.training.prompts import tune
from mesaopt.workflow_settings import read_settings

ROOT = Path(__file__).resolve().parent.parent
WAYS = ("torch", "native")
#: run and stage
FITTED = (
    ("unclipped-n4-noise0p01/softmax-d7", "distil"),
    ("unclipped-n10-noise0p01/softmax-d7", "distil"),
    ("unclipped-n20-noise0p01/softmax-d7", "distil"),
    ("linear-long/hybrid", "tune-prompts"),
    ("linear-long/softmax-d7", "tune-prompts"),
)
#: seconds that either way computes for in a round, about
SECONDS = 4.0


def fit(plan: Plan, name: str, stage: str, way: str, steps: int) -> float:
    """Seconds of so many steps."""
    run = plan.run(name)
    settings = replace(plan.analysis(stage, name), steps=steps)
    model = initialise(run.model, run.task.n_obs, [1])
    start = time.perf_counter()
    if stage == "distil":
        distil(run, 1, model, settings, backend=way)
    else:
        tune(run, 1, model, plan.tasks[settings.pairs], settings, backend=way)
    return time.perf_counter() - start


def milliseconds(of: Callable[[int], float], steps: int) -> float:
    """Of a step; what precedes the first one (weights, least squares) is taken off."""
    return (of(steps + 1) - of(1)) / steps * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    settings = read_settings(ROOT, {"scale": "paper"})
    plan = resolve(settings.experiments, settings.scales, settings.config, "paper")
    recursion = Rates.read(ROOT).recursion
    print(f"{'ms a step':50}", *(f"{way:>10}" for way in WAYS), f"{'times':>8}", "   a whole one, min; GFLOP/s of compiled code")
    for name, stage in FITTED:
        of = {way: functools.partial(fit, plan, name, stage, way) for way in WAYS}
        steps = {way: max(2, int(SECONDS / max(1e-3, (run(4) - run(1)) / 3))) for way, run in of.items()}
        taken = {way: [] for way in WAYS}
        for _ in range(rounds):
            for way in WAYS:
                taken[way].append(milliseconds(of[way], steps[way]))
        median = {way: statistics.median(values) for way, values in taken.items()}
        settings_of = plan.analysis(stage, name)
        whole = " / ".join(f"{median[way] * settings_of.steps / 6e4:.1f}" for way in WAYS)
        rate = fit_flops(plan.run(name), settings_of, recursion) / settings_of.steps / median["native"] / 1e6
        row = (
            f"{stage + ' ' + name:50} {median['torch']:10.1f} {median['native']:10.1f} {median['torch'] / median['native']:8.1f}"
        )
        print(f"{row}    {whole}; {rate:.0f}", flush=True)


if __name__ == "__main__":
    main()
