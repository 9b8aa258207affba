"""How long the scalars of Proposition 2 take to learn at the paper scale: `python benchmarks/learning_speed.py [--rounds 3]`.

Milliseconds a step on one core, by NumPy and PyTorch as in the first release and by compiled code, in alternating rounds, with
everything that a step does; on a GPU too where there is one. The last column is what a whole learning takes.
"""

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch

from mesaopt.spec.algorithm import Theory
from mesaopt.spec.plan import resolve
from mesaopt.training.learning import Options, learn
from mesaopt.workflow_settings import read_settings

ROOT = Path(__file__).resolve().parent.parent
ALGORITHMS = (
    "linear/proposition2",
    "linear/proposition2-2steps",
    "partial/proposition2-linear",
    "partial/proposition2-nonlinear",
    "nonlinear/proposition2-linear",
    "nonlinear/proposition2-nonlinear",
)
WAYS = {"torch": Options(backend="torch"), "native": Options()}
STEPS = {"torch": 150, "native": 1000, "cuda": 4000}


def milliseconds(theory: Theory, way: str, options: Options) -> float:
    """Of one step of learning."""
    start = time.perf_counter()
    learn(replace(theory, steps=STEPS[way]), 1, options=options)
    return (time.perf_counter() - start) / STEPS[way] * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    ways = WAYS | ({"cuda": Options(device="cuda")} if torch.cuda.is_available() else {})
    settings = read_settings(ROOT, {"scale": "paper"})
    plan = resolve(settings.experiments, settings.scales, settings.config, "paper")
    print(
        f"{'ms a step':36}",
        *(f"{way:>10}" for way in ways),
        *(f"{f'times {way}':>14}" for way in list(ways)[1:]),
        "   whole learning, s",
    )
    for name in ALGORITHMS:
        theory = replace(plan.algorithm(name), search_values=0)
        for options in ways.values():  # compiles, and fills caches
            learn(replace(theory, steps=2), 1, options=options)
        taken = {way: [] for way in ways}
        for _ in range(rounds):
            for way, options in ways.items():
                taken[way].append(milliseconds(theory, way, options))
        median = {way: statistics.median(values) for way, values in taken.items()}
        ratios = [f"{median['torch'] / median[way]:14.1f}" for way in list(ways)[1:]]
        whole = " / ".join(f"{median[way] * theory.steps / 1e3:.0f}" for way in ways)
        print(f"{name:36}", *(f"{median[way]:10.3f}" for way in ways), *ratios, f"   {whole} ({theory.steps} steps)", flush=True)


if __name__ == "__main__":
    main()
