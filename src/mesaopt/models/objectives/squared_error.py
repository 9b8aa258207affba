"""Objective `squared_error`: predict the next observation; half the squared error summed over channels (paper, section 2)."""

from jaxtyping import Float
from torch import Tensor

from mesaopt.data.sequences import inputs_targets
from mesaopt.data.tokens import tokenise
from mesaopt.spec.run import Model


def examples(
    model: Model, observations: Float[Tensor, "pack batch time_plus_1 n_obs"]
) -> tuple[Float[Tensor, "pack batch time token"], Float[Tensor, "pack batch time n_obs"]]:
    """What the model reads, and what it shall predict at every position."""
    inputs, targets = inputs_targets(observations)
    return tokenise(inputs, model.tokens), targets


def total_loss(
    predictions: Float[Tensor, "pack batch time n_obs"], targets: Float[Tensor, "pack batch time n_obs"]
) -> Float[Tensor, " pack"]:
    """Summed over all positions of all sequences."""
    return (predictions - targets).square().sum(dim=(1, 2, 3)) / 2
