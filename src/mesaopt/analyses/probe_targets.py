"""What probes look for in the activations, as values for every sequence and position.

* `next_token`: s_{t+1}
* `current_token`: s_t
* `preconditioned_input`: the K-step Chebyshev approximation, with learned parameters, of the next one
* `preconditioned_input_exact`: (S_{t-1} S_{t-1}^T + I/lambda)^-1 s_t, where S_{t-1} holds s_1 ... s_{t-1} as columns

In the last two what the preconditioner reads stands for s_t: the latest observations z_t, or features f_t (paper, sections on
partially observed and on nonlinear systems). So they may be wider than s_t.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mesaopt.algorithms.least_squares import exact_preconditioned_inputs
from mesaopt.algorithms.preconditioning import Preconditioned
from mesaopt.data.sequences import generator_of, inputs_targets
from mesaopt.spec.run import Task

#: the targets that controls are made for: those of the paper's figures
CONTROLLED = ("next_token", "preconditioned_input")


@dataclass(frozen=True)
class Target:
    """Values to decode, and which sequences count at which position."""

    values: Float[Tensor, "batch time channel"]
    kept: Bool[Tensor, "batch time"]


def make_targets(
    task: Task, observations: Float[Tensor, "batch time_plus_1 n_obs"], preconditioner: Preconditioned, chunk: int = 64
) -> dict[str, Target]:
    """All targets by name, in float64; `preconditioner` supplies what is read, the parameters and 1/lambda."""
    inputs, following = inputs_targets(observations.double())
    everything = torch.ones(inputs.shape[:2], dtype=torch.bool, device=inputs.device)
    bound = generator_of(task).bound  # sequences that reach it are no longer linear
    linear = everything if bound is None else (following < bound).all(-1)
    read = preconditioner.reading.inputs(inputs).split(chunk)
    approximate = [preconditioner.preconditioned_inputs(part) for part in read]
    exact = [exact_preconditioned_inputs(part, preconditioner.inverse_lam) for part in read]
    return {
        "next_token": Target(following, linear),
        "current_token": Target(inputs, everything),
        "preconditioned_input": _without_outliers(torch.cat(approximate)),
        "preconditioned_input_exact": _without_outliers(torch.cat(exact)),
    }


def _without_outliers(values: Float[Tensor, "batch time width"]) -> Target:
    """Keeps, at each position, sequences whose target norm is at most two standard deviations above the mean."""
    norms = torch.linalg.vector_norm(values, dim=-1)
    return Target(values, norms <= norms.mean(0) + 2 * norms.std(0, correction=0))


def shuffled(targets: Mapping[str, Target]) -> dict[str, Target]:
    """Control: every sequence gets the targets of its neighbour. Sequences are independent, so any permutation would do."""
    return {f"shuffled_{name}": Target(one.values.roll(1, 0), one.kept.roll(1, 0)) for name, one in targets.items()}


@dataclass(frozen=True)
class Sample:
    """Sequences with the targets to decode from them."""

    observations: Float[Tensor, "batch time_plus_1 n_obs"]
    targets: Mapping[str, Target]

    def only(self, names: Iterable[str]) -> "Sample":
        """With those targets alone."""
        return Sample(self.observations, {name: self.targets[name] for name in names})

    def with_shuffled(self, names: Iterable[str]) -> "Sample":
        """With the targets of these names of other sequences beside all of its own."""
        return Sample(self.observations, {**self.targets, **shuffled(self.only(names).targets)})
