"""How many sequences a loss by position takes for a stated precision: measured from how much single sequences differ.

    python benchmarks/precision.py [WEIGHTS ...] [--sequences N]

For every task of the main and the control figures, and every predictor that is there (one gradient step and least squares; of the
task's models those whose weights are named): the standard deviation of single sequences at t = 49 as a part of their mean, and so
many sequences as bring the standard error of the mean to the precision that is asked of the task. The settings `evaluate` of
config/experiments.yaml are the largest of these, rounded up; heavy tails make the numbers of contracting systems rough.
"""

import argparse
import math
from pathlib import Path

import torch

from mesaopt.algorithms.gradient_descent import GradientDescent
from mesaopt.algorithms.least_squares import LeastSquares
from mesaopt.data.random import generator
from mesaopt.data.sequences import generate
from mesaopt.models.predictors import Predictor, losses, model_predictor
from mesaopt.models.weights import load_model
from mesaopt.spec.run import Task, read_run

#: standard error of the mean at t = 49, as a part of it, that is asked of each task
PRECISION = {"linear": 0.02, "fixed_teacher": 0.02, "contracting": 0.1}
#: published learning rates of one gradient step, and 1/lambda of least squares
ETA, INVERSE_LAM = {"linear": 0.032, "fixed_teacher": 0.0334, "contracting": 8.8e-4}, 0.001
POSITION = 49


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("weights", nargs="*", type=Path, help="weights.safetensors of trained runs, spec.json beside each")
    arguments.add_argument("--sequences", type=int, default=20_000)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    for name, precision in PRECISION.items():
        drawn = generate(Task(name), given.sequences, generator(0, "precision")).observations
        for label, predictor in predictors(name, given.weights).items():
            at = losses(predictor, drawn)[:, POSITION - 1]
            part = (at.std() / at.mean()).item()
            needed = math.ceil((part / precision) ** 2)
            print(f"{name:14} {label:22} deviation {part:6.2f} of the mean: {needed:7,} sequences for {precision:.0%}")


def predictors(task: str, weights: list[Path]) -> dict[str, Predictor]:
    found: dict[str, Predictor] = {"one gradient step": GradientDescent(ETA[task]), "least squares": LeastSquares(INVERSE_LAM)}
    for path in weights:
        run, _ = read_run(path)
        if run.task.name == task:
            found[run.name] = model_predictor(load_model(run, path))
    return found


if __name__ == "__main__":
    main()
