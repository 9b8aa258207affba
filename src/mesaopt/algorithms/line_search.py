"""The best of several values of a parameter, by the loss of the predictor that it makes."""

from collections.abc import Callable, Iterable

from jaxtyping import Float
from torch import Tensor

from mesaopt.data.sequences import inputs_targets

#: sequences at a time
_CHUNK = 64


def least_loss(
    values: Iterable[float],
    predictor: Callable[[float], Callable[[Tensor], Tensor]],
    observations: Float[Tensor, "batch time_plus_1 n_obs"],
) -> float:
    """The value whose predictor has the least squared error, summed over channels and positions; the first of equals.

    In float64, so that neighbours on a fine grid are told apart.
    """

    def error(value: float) -> float:
        predict, total = predictor(value), 0.0
        for part in observations.split(_CHUNK):
            inputs, targets = inputs_targets(part.double())
            total += (predict(inputs) - targets).square().sum().item()
        return total

    return min(values, key=error)
