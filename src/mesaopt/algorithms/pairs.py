"""The input-target pairs in the context: at position t, all (x_{t'}, y_{t'+1}) with t' < t; inputs x and values y are both s_t
unless an algorithm reads something else (`reading`).

Stored by the position j = t' + 1 of the target: key x_{j-1}, value y_j, seen at t if j <= t - lag. Then sums over the pairs are
causal linear attention, without matrices of size width x width. `lag` 0 uses all pairs, 1 leaves out the newest one.
"""

from jaxtyping import Float
from torch import Tensor

from mesaopt.data.tokens import delayed


def scores(
    queries: Float[Tensor, "*batch time width"], inputs: Float[Tensor, "*batch time width"], lag: int = 0
) -> Float[Tensor, "*batch time time"]:
    """x_{j-1}^T q_t for the pairs j that are visible at t, zero for the others: times values, the sum over the pairs."""
    return (queries @ delayed(inputs, 1).mT).tril_(-lag)


def regress(
    queries: Float[Tensor, "*batch time width"],
    inputs: Float[Tensor, "*batch time width"],
    lag: int = 0,
    values: Float[Tensor, "*batch time n_obs"] | None = None,
) -> Float[Tensor, "*batch time n_obs"]:
    """sum_{t'} y_{t'+1} x_{t'}^T q_t over the visible pairs: one gradient step of rate 1 from Phi = 0, applied to q_t.

    Without `values` they are the inputs.
    """
    return scores(queries, inputs, lag) @ (inputs if values is None else values)


def covariances(inputs: Float[Tensor, "*batch time width"], lag: int = 0) -> Float[Tensor, "*batch time width width"]:
    """sum_{t'} x_{t'} x_{t'}^T over the visible pairs, as matrices, in the dtype of `inputs`."""
    keys = delayed(inputs, 1 + lag)
    return (keys.unsqueeze(-1) * keys.unsqueeze(-2)).cumsum(-3)
