"""What probes look for in the activations, as values for every sequence and position.

* `next_token`: s_{t+1}
* `current_token`: s_t
* `preconditioned_input_published`: the K-step approximation of the last one by the published recursion, which figures draw
* `preconditioned_input`: the same by the recursion of the text (both in `algorithms.preconditioning`)
* `preconditioned_input_exact`: (S_{t-1} S_{t-1}^T + I/lambda)^-1 s_t, where S_{t-1} holds s_1 ... s_{t-1} as columns

In the last three what the preconditioner reads stands for s_t: the latest observations z_t, or features f_t (paper, sections on
partially observed and on nonlinear systems). So they may be wider than s_t. The parameters of both recursions are learned on the
task's own loss, and all t-1 pairs are used, whatever the curves do.
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

#: the two approximations, named by the recursion behind them; the exact one has the 1/lambda of the first
TEXTBOOK, PUBLISHED = "preconditioned_input", "preconditioned_input_published"
#: the targets that controls are made for: those of the paper's figures
CONTROLLED = ("next_token", PUBLISHED)


@dataclass(frozen=True)
class Target:
    """Values to decode, and which sequences count at which position."""

    values: Float[Tensor, "batch time channel"]
    kept: Bool[Tensor, "batch time"]


def make_targets(
    task: Task,
    observations: Float[Tensor, "batch time_plus_1 n_obs"],
    preconditioners: Mapping[str, Preconditioned],
    chunk: int = 64,
) -> dict[str, Target]:
    """All targets by name, in float64; `preconditioners` supply, by target, what is read, the parameters and 1/lambda."""
    inputs, following = inputs_targets(observations.double())
    everything = torch.ones(inputs.shape[:2], dtype=torch.bool, device=inputs.device)
    bound = generator_of(task).bound  # sequences that reach it are no longer linear
    linear = everything if bound is None else (following < bound).all(-1)
    text = preconditioners[TEXTBOOK]
    exact = [exact_preconditioned_inputs(part, text.inverse_lam) for part in text.reading.inputs(inputs).split(chunk)]
    return {
        "next_token": Target(following, linear),
        "current_token": Target(inputs, everything),
        **{name: _without_outliers(_approximate(one, inputs, chunk)) for name, one in preconditioners.items()},
        "preconditioned_input_exact": _without_outliers(torch.cat(exact)),
    }


def _approximate(
    preconditioner: Preconditioned, inputs: Float[Tensor, "batch time n_obs"], chunk: int
) -> Float[Tensor, "batch time width"]:
    parts = preconditioner.reading.inputs(inputs).split(chunk)
    return torch.cat([preconditioner.preconditioned_inputs(part) for part in parts])


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
