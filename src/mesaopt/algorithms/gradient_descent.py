"""GD-1: one step of gradient descent on the mesa-objective, the algorithm of one linear self-attention layer (Proposition 1)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from mesaopt.algorithms.pairs import regress, scores
from mesaopt.data.sequences import inputs_targets
from mesaopt.data.tokens import delayed
from mesaopt.errors import InputError

#: sequences at a time, so that memory does not grow with their number
_CHUNK = 1024


@dataclass(frozen=True)
class GradientDescent:
    """Predicts (Phi_0 - eta grad L_t(Phi_0)) s_t with Phi_0 = w_0 I."""

    eta: float
    w_0: float = 0.0

    def __call__(self, inputs: Float[Tensor, "batch time n_obs"]) -> Float[Tensor, "batch time n_obs"]:
        # -grad L_t(Phi_0) = sum (s_{t'+1} - w_0 s_{t'}) s_{t'}^T
        errors = inputs - self.w_0 * delayed(inputs, 1)
        return self.w_0 * inputs + self.eta * (scores(inputs, inputs) @ errors)


def line_search_eta(observations: Float[Tensor, "batch time_plus_1 n_obs"]) -> float:
    """The rate eta of least loss at Phi_0 = 0. The loss is quadratic in eta, so the search is exact.

    Raises `InputError` when the sequences hold no pair to learn from.
    """
    product = curvature = 0.0
    for part in observations.split(_CHUNK):
        inputs, targets = inputs_targets(part.double())
        direction = regress(inputs, inputs)
        product += (direction * targets).sum().item()
        curvature += direction.square().sum().item()
    if curvature == 0:
        raise InputError("eta cannot be line-searched: the sequences need at least 3 elements that are not all zero")
    return product / curvature
